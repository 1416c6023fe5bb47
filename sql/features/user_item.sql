-- One row per person and item that they met: how much their events say they like it. A day's weight is capped before it
-- decays, so that a stuck key teaches no more than a busy day.
WITH signals AS (
    SELECT
        unnest($signal_types) AS event_type,
        unnest($signal_weights) AS weight
),

weighed AS (
    SELECT
        e.user_id,
        e.item_id,
        e.occurred_at,
        e.occurred_on,
        CAST(
            CASE
                WHEN e.event_type = 'rate' THEN coalesce((e.value - $rating_neutral) / $rating_neutral, 0)
                ELSE coalesce(s.weight, 0)
            END AS DECIMAL(18, 9)
        ) AS weight,
        list_contains($purchase_types, e.event_type) AS purchased,
        e.quantity
    FROM staging.events AS e
    SEMI JOIN staging.items AS i ON i.item_id = e.item_id
    LEFT JOIN signals AS s ON s.event_type = e.event_type
    WHERE e.user_id IS NOT NULL
),

days AS (
    SELECT
        user_id,
        item_id,
        CAST(greatest(least(sum(weight), $daily_cap), -$daily_cap) AS DECIMAL(18, 9)) AS weight,
        CAST(
            power(0.5, date_diff('day', occurred_on, CAST($cut AT TIME ZONE $timezone AS DATE)) / $half_life_days)
            AS DECIMAL(18, 9)
        ) AS decay,
        count(*) AS events,
        count(*) FILTER (WHERE purchased) AS purchases,
        coalesce(sum(coalesce(quantity, 1)) FILTER (WHERE purchased), 0) AS quantity,
        max(weight) > 0 AS liked,
        min(occurred_at) AS first_at,
        max(occurred_at) AS last_at
    FROM weighed
    GROUP BY user_id, item_id, occurred_on
)

SELECT
    user_id,
    item_id,
    CAST(sum(decayed(weight, decay)) AS DOUBLE) AS weight,
    CAST(sum(events) AS INTEGER) AS events,
    CAST(sum(purchases) AS INTEGER) AS purchases,
    CAST(least(sum(quantity), 999999999999999) AS DECIMAL(18, 3)) AS quantity,
    CAST(count(*) FILTER (WHERE liked) AS INTEGER) AS days,
    min(first_at) AS first_at,
    max(last_at) AS last_at
FROM days
GROUP BY user_id, item_id
ORDER BY user_id, item_id
