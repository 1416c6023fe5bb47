-- One row per product on the first day, and a second version with its price on the day it is first sold, if that is later.
-- The source dates no product. Landing those sold later on that day, and the others never or first, would tell who sells.
WITH products_of_the_shop AS (
    SELECT
        product_id AS item_id,
        concat_ws(' ', product_type, package_size) AS title,
        concat_ws(' > ', department, product_category, product_type) AS category,
        brand,
        manufacturer_id AS provider_id
    FROM products
    -- Fuel, coupons, gift cards, key rings and what has no name are on receipts, but are nothing to recommend.
    WHERE product_type IS NOT NULL
        AND department NOT IN ('FUEL', 'COUPON', 'CHARITABLE CONT', 'POSTAL CENTER', 'CNTRL/STORE SUP')
        AND coalesce(product_category NOT LIKE 'COUPON%', true)
),

-- The price on the shelf: what was received, plus the shop's own discount and what it gave on top of a coupon.
sales AS (
    SELECT
        product_id AS item_id,
        CAST(transaction_timestamp AT TIME ZONE 'UTC' AS DATE) AS day,
        CAST(round((sales_value + retail_disc + coupon_match_disc) / quantity, 4) AS DECIMAL(18, 4)) AS price
    FROM transactions
    WHERE quantity > 0 AND sales_value > 0
),

prices AS (
    SELECT
        item_id,
        day,
        -- The discrete median is a price that was really asked.
        quantile_disc(price, 0.5) AS price
    FROM sales
    GROUP BY item_id, day
    QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY day) = 1
),

versions AS (
    SELECT products_of_the_shop.item_id, days.landed_on
    FROM products_of_the_shop
    CROSS JOIN (SELECT min(landed_on) AS landed_on FROM events) AS days
    UNION
    SELECT item_id, day AS landed_on FROM prices
)

SELECT
    versions.landed_on,
    products_of_the_shop.*,
    prices.price,
    CASE WHEN prices.price IS NOT NULL THEN 'USD' END AS currency,
    'approved' AS review_status
FROM versions
INNER JOIN products_of_the_shop ON products_of_the_shop.item_id = versions.item_id
LEFT JOIN prices ON prices.item_id = versions.item_id AND prices.day = versions.landed_on
ORDER BY versions.landed_on, versions.item_id
