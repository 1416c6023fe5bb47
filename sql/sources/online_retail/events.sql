-- One event per invoice line, whatever it is for: postage and corrections are events too, they only have no item.
-- The invoice is the visit; a line without a customer is anonymous. Signs live in the event type, not in the amounts.
SELECT
    landed_on,
    invoice || '-' || CAST(invoice_line AS VARCHAR) AS event_id,
    user_id,
    CASE WHEN returned THEN 'return' ELSE 'purchase' END AS event_type,
    item_id,
    occurred_at,
    CAST(abs(pieces) AS DECIMAL(18, 3)) AS quantity,
    CAST(abs(pieces * price) AS DECIMAL(18, 4)) AS amount,
    'GBP' AS currency,
    invoice AS session_id,
    country
FROM lines
ORDER BY landed_on, line
