-- One row per ordered pair of items that at least $min_people people liked: how many did. Each person speaks with their
-- newest $recent_items only, which bounds both a bot's say and the work; a pair of fewer people may be shown to nobody.
WITH liked AS (
    SELECT
        user_id,
        item_id
    FROM features.user_item
    WHERE weight > 0
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY last_at DESC, item_id) <= $recent_items
),

-- Numbers stand for the ids while pairs are counted: eight bytes instead of two strings for each of many millions.
numbers AS (
    SELECT
        item_id,
        row_number() OVER (ORDER BY item_id) AS number
    FROM liked
    GROUP BY item_id
    HAVING count(*) >= $min_people
),

baskets AS (
    SELECT
        liked.user_id,
        CAST(numbers.number AS INTEGER) AS number
    FROM liked
    INNER JOIN numbers ON numbers.item_id = liked.item_id
),

counts AS (
    SELECT
        one.number AS number,
        other.number AS other_number,
        count(*) AS people
    FROM baskets AS one
    INNER JOIN baskets AS other ON other.user_id = one.user_id AND other.number > one.number
    GROUP BY one.number, other.number
    HAVING count(*) >= $min_people
),

directed AS (
    SELECT number, other_number, people FROM counts
    UNION ALL
    SELECT other_number AS number, number AS other_number, people FROM counts
)

SELECT
    one.item_id,
    other.item_id AS other_item_id,
    CAST(directed.people AS INTEGER) AS people
FROM directed
INNER JOIN numbers AS one ON one.number = directed.number
INNER JOIN numbers AS other ON other.number = directed.other_number
ORDER BY directed.number, directed.other_number
