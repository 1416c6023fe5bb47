-- One row per finished day, event type, device and currency: sums from which ratios are formed, anonymous events included.
-- Distinct people, items and visits hold within the row and must not be added up. Nothing is suppressed: these are counts
-- of events, and no row names or describes a person.
SELECT
    occurred_on,
    event_type,
    coalesce(device, 'unknown') AS device,
    coalesce(currency, 'none') AS currency,
    CAST(count(*) AS BIGINT) AS events,
    CAST(count(*) FILTER (WHERE user_id IS NULL) AS BIGINT) AS anonymous_events,
    CAST(count(*) FILTER (WHERE publication_id IS NOT NULL) AS BIGINT) AS listed_events,
    CAST(count(*) FILTER (WHERE list_contains($click_types, event_type)) AS BIGINT) AS clicks,
    CAST(count(*) FILTER (WHERE list_contains($purchase_types, event_type)) AS BIGINT) AS purchases,
    CAST(
        count(*) FILTER (
            WHERE list_contains($helpful_types, event_type) OR (event_type = 'rate' AND value >= $helpful_rating)
        ) AS BIGINT
    ) AS helpful,
    CAST(count(DISTINCT user_id) AS BIGINT) AS people,
    CAST(count(DISTINCT item_id) AS BIGINT) AS items,
    CAST(count(DISTINCT session_id) AS BIGINT) AS sessions,
    CAST(coalesce(sum(quantity), 0) AS DECIMAL(38, 3)) AS quantity,
    CASE WHEN currency IS NOT NULL THEN CAST(coalesce(sum(amount), 0) AS DECIMAL(38, 4)) END AS amount
FROM staging.activity
WHERE occurred_on < CAST($cut AT TIME ZONE $timezone AS DATE)
GROUP BY occurred_on, event_type, coalesce(device, 'unknown'), currency
ORDER BY occurred_on, event_type, device, currency
