-- One purchase per product and basket; the basket is the visit. The amount is what the shop received for the line: its own
-- discounts are off, a maker's coupon is not, since that only says who paid.
-- Fuel counts thousandths of a gallon; it is no item, so nothing reads its pieces.
-- Days are those of UTC, the clock of the source; a day of the shops (US Eastern) would end before its evening is over.
SELECT
    CAST(transaction_timestamp AT TIME ZONE 'UTC' AS DATE) AS landed_on,
    basket_id || '-' || product_id AS event_id,
    household_id AS user_id,
    'purchase' AS event_type,
    product_id AS item_id,
    transaction_timestamp AS occurred_at,
    CAST(quantity AS DECIMAL(18, 3)) AS quantity,
    CAST(sales_value AS DECIMAL(18, 4)) AS amount,
    'USD' AS currency,
    basket_id AS session_id
FROM transactions
-- Neither goods nor money: the line was taken back at the till.
WHERE quantity > 0 OR sales_value > 0
ORDER BY landed_on, occurred_at, event_id
