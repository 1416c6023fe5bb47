-- One row per person with events: how lately, how often, how much. Money is counted in the currency that the person bought
-- in most often, and in no other: several currencies are never summed.
WITH spent AS (
    SELECT
        user_id,
        currency,
        sum(CASE WHEN list_contains($purchase_types, event_type) THEN abs(amount) ELSE -abs(amount) END) AS spend,
        count(*) FILTER (WHERE list_contains($purchase_types, event_type)) AS lines
    FROM staging.events
    WHERE
        user_id IS NOT NULL
        AND amount IS NOT NULL
        AND currency IS NOT NULL
        AND (list_contains($purchase_types, event_type) OR event_type = 'return')
    GROUP BY user_id, currency
),

money AS (
    SELECT *
    FROM spent
    WHERE lines > 0
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY lines DESC, currency) = 1
),

activity AS (
    SELECT
        user_id,
        count(*) AS events,
        count(*) FILTER (WHERE list_contains($purchase_types, event_type)) AS purchases,
        count(DISTINCT occurred_on) AS days,
        count(DISTINCT occurred_on) FILTER (WHERE list_contains($purchase_types, event_type)) AS purchase_days,
        min(occurred_at) AS first_at,
        max(occurred_at) AS last_at,
        date_diff('day', max(occurred_on), CAST($cut AT TIME ZONE $timezone AS DATE)) AS recency_days
    FROM staging.events
    WHERE user_id IS NOT NULL
    GROUP BY user_id
)

SELECT
    a.user_id,
    CAST(a.events AS INTEGER) AS events,
    CAST(a.purchases AS INTEGER) AS purchases,
    CAST(a.days AS INTEGER) AS days,
    CAST(a.purchase_days AS INTEGER) AS purchase_days,
    a.first_at,
    a.last_at,
    CAST(a.recency_days AS INTEGER) AS recency_days,
    m.currency,
    CAST(m.spend AS DECIMAL(38, 4)) AS spend
FROM activity AS a
LEFT JOIN money AS m ON m.user_id = a.user_id
ORDER BY a.user_id
