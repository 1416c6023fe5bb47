-- One row per person, kind and value: what the items that they like have in common. Sensitive items say nothing about
-- anybody, so they are left out.
WITH liked AS (
    SELECT
        u.user_id,
        CAST(u.weight AS DECIMAL(18, 9)) AS weight,
        i.category,
        i.brand,
        CAST(i.price_band AS VARCHAR) AS price_band
    FROM features.user_item AS u
    INNER JOIN features.item_attributes AS i ON i.item_id = u.item_id
    WHERE u.weight > 0 AND NOT i.sensitive
),

interests AS (
    SELECT user_id, 'category' AS kind, category AS value, sum(weight) AS weight
    FROM liked
    WHERE category IS NOT NULL
    GROUP BY user_id, category
    UNION ALL
    SELECT user_id, 'brand' AS kind, brand AS value, sum(weight) AS weight
    FROM liked
    WHERE brand IS NOT NULL
    GROUP BY user_id, brand
    UNION ALL
    SELECT user_id, 'price_band' AS kind, price_band AS value, sum(weight) AS weight
    FROM liked
    WHERE price_band IS NOT NULL
    GROUP BY user_id, price_band
)

SELECT
    user_id,
    kind,
    value,
    CAST(weight AS DOUBLE) AS weight,
    CAST(weight AS DOUBLE) / CAST(sum(weight) OVER (PARTITION BY user_id, kind) AS DOUBLE) AS share,
    CAST(row_number() OVER (PARTITION BY user_id, kind ORDER BY weight DESC, value) AS INTEGER) AS rank
FROM interests
ORDER BY user_id, kind, rank
