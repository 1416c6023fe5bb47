-- One row per item and place: the items that the same people like, for "similar to this one". Scored by the cosine of the
-- two sets of people, |A ∩ B| / √(|A| |B|). Too few people in common say nothing; a sensitive item is never evidence.
WITH pairs AS (
    SELECT
        p.item_id,
        p.other_item_id,
        p.people / sqrt(CAST(one.people AS DOUBLE) * other.people) AS score,
        p.people
    FROM features.item_pairs AS p
    INNER JOIN features.item_popularity AS one ON one.item_id = p.item_id
    INNER JOIN features.item_popularity AS other ON other.item_id = p.other_item_id
    INNER JOIN features.item_attributes AS shown ON shown.item_id = p.item_id AND NOT shown.sensitive
    INNER JOIN features.item_attributes AS offered
        ON offered.item_id = p.other_item_id AND offered.recommendable AND NOT offered.sensitive
    WHERE p.people >= $min_people
)

SELECT
    item_id,
    CAST(
        row_number() OVER (PARTITION BY item_id ORDER BY score DESC, people DESC, other_item_id) AS INTEGER
    ) AS position,
    other_item_id,
    score,
    people
FROM pairs
QUALIFY position <= $similar_items
ORDER BY item_id, position
