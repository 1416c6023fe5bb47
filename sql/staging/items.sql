-- One row per item: its newest version that had landed by the cut, a missing price filled from its category, and whether
-- it may be shown. The fill is the median of prices that exist, in one currency: exact, and never an average of two.
WITH landings AS (
    SELECT
        *,
        split_part(category, ' > ', 1) AS category_top,
        min(landed_on) OVER (PARTITION BY item_id) AS first_landed_on,
        max(landed_on) OVER () AS newest_landing
    FROM history.items
    WHERE landed_on <= $landed_by
),

items AS (
    SELECT *
    FROM landings
    WHERE NOT $items_are_snapshots OR landed_on = newest_landing
    QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY landed_on DESC, landed_file DESC, landed_row DESC) = 1
),

paths AS (
    SELECT 'category' AS level, category AS path, currency, price FROM items
    UNION ALL
    SELECT 'category_top' AS level, category_top AS path, currency, price FROM items
),

prices AS (
    SELECT
        level,
        path,
        currency,
        quantile_disc(price, 0.5) AS price,
        row_number() OVER (PARTITION BY level, path ORDER BY count(*) DESC, currency) AS commonness
    FROM paths
    WHERE path IS NOT NULL AND currency IS NOT NULL AND price IS NOT NULL
    GROUP BY level, path, currency
)

SELECT
    i.item_id,
    i.title,
    i.description,
    i.category,
    i.brand,
    i.tags,
    coalesce(i.price, narrow.price, broad.price) AS price,
    coalesce(i.currency, CASE WHEN i.price IS NULL THEN coalesce(narrow.currency, broad.currency) END) AS currency,
    i.provider_id,
    i.created_at,
    i.available_from,
    i.available_until,
    i.stock,
    i.review_status,
    i.sensitive,
    i.price IS NULL AND coalesce(narrow.price, broad.price) IS NOT NULL AS price_filled,
    i.category_top,
    i.first_landed_on,
    coalesce(i.review_status = 'approved', false)
    AND coalesce(i.available_from <= $cut, true)
    AND coalesce(i.available_until > $cut, true)
    AND coalesce(i.stock > 0, true) AS recommendable
FROM items AS i
LEFT JOIN prices AS narrow
    ON
        i.price IS NULL
        AND narrow.level = 'category'
        AND narrow.path = i.category
        AND (narrow.currency = i.currency OR (i.currency IS NULL AND narrow.commonness = 1))
LEFT JOIN prices AS broad
    ON
        i.price IS NULL
        AND broad.level = 'category_top'
        AND broad.path = i.category_top
        AND (broad.currency = i.currency OR (i.currency IS NULL AND broad.commonness = 1))
ORDER BY i.item_id
