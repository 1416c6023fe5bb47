-- One row per item of the catalogue: what its provider says about it. The price band compares an item with its own kind,
-- in its own currency; equal prices share a band.
SELECT
    item_id,
    trim(concat_ws(
        ' ',
        title,
        replace(category, ' > ', ' '),
        brand,
        replace(tags, '|', ' '),
        description
    )) AS text,
    category,
    category_top,
    brand,
    price,
    currency,
    CASE
        WHEN price IS NOT NULL THEN CAST(
            1
            + 5 * (rank() OVER (PARTITION BY category_top, currency, price IS NULL ORDER BY price) - 1)
            // count(*) OVER (PARTITION BY category_top, currency, price IS NULL)
            AS INTEGER
        )
    END AS price_band,
    first_landed_on,
    recommendable,
    coalesce(sensitive, false) AS sensitive
FROM staging.items
ORDER BY item_id
