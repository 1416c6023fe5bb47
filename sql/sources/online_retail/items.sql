-- One version of a product per landing day: the day it is first seen and, where that day only booked stock, the day it
-- is first sold. A version knows its own day and the first, nothing later; later prices are on the events.
-- A product's code starts with five digits or with the shop's own DCGS; everything else (POST, DOT, M, D, S, C2, B, BANK
-- CHARGES, AMAZONFEE, CRUK, PADS, gift vouchers) is postage, a fee, a sample, a correction or money.
WITH products AS (
    SELECT landed_on, item_id, title, occurred_at, price, sold
    FROM lines
    WHERE regexp_matches(item_id, '^([0-9]{5}|DCGS)')
),
-- Titles come from sales: on other lines the clerk writes remarks such as 'check' or 'damaged'.
titles AS (
    SELECT
        item_id,
        landed_on,
        title,
        row_number() OVER (PARTITION BY item_id, landed_on ORDER BY count(*) DESC, title) AS place
    FROM products
    WHERE sold AND title IS NOT NULL
    GROUP BY item_id, landed_on, title
),
days AS (
    SELECT
        item_id,
        landed_on,
        min(occurred_at) AS opened_at,
        -- The discrete median is a price that was really asked.
        quantile_disc(price, 0.5) FILTER (WHERE sold) AS price,
        count(*) FILTER (WHERE sold) > 0 AS sold
    FROM products
    GROUP BY item_id, landed_on
),
versions AS (
    SELECT
        item_id,
        landed_on,
        price,
        first_value(opened_at) OVER (PARTITION BY item_id ORDER BY landed_on) AS created_at,
        row_number() OVER (PARTITION BY item_id ORDER BY landed_on) = 1 AS first_seen,
        sold AND row_number() OVER (PARTITION BY item_id, sold ORDER BY landed_on) = 1 AS first_sold
    FROM days
)
SELECT
    versions.landed_on,
    versions.item_id,
    titles.title,
    CAST(versions.price AS DECIMAL(18, 4)) AS price,
    CASE WHEN versions.price IS NULL THEN NULL ELSE 'GBP' END AS currency,
    versions.created_at,
    'approved' AS review_status
FROM versions
LEFT JOIN titles
    ON titles.item_id = versions.item_id AND titles.landed_on = versions.landed_on AND titles.place = 1
WHERE versions.first_seen OR versions.first_sold
ORDER BY versions.landed_on, versions.item_id
