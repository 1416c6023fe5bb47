-- One row per event before the cut of people who allow analytics, since they last started anew, and of nobody in
-- particular. Not kept, because it is only ever summed: daily facts and nothing about anybody.
SELECT
    e.event_id,
    e.user_id,
    e.event_type,
    e.item_id,
    e.occurred_at,
    e.value,
    e.quantity,
    e.amount,
    e.currency,
    CASE WHEN coalesce(p.mood_signals, $mood_signals) THEN e.dwell_seconds END AS dwell_seconds,
    CASE WHEN coalesce(p.mood_signals, $mood_signals) THEN e.scroll_speed END AS scroll_speed,
    e.session_id,
    e.device,
    e.country,
    CASE WHEN coalesce(p.precise_place, $precise_place) THEN e.region END AS region,
    e.referrer,
    e.publication_id,
    e.position,
    CAST(e.occurred_at AT TIME ZONE $timezone AS DATE) AS occurred_on,
    e.landed_on
FROM history.events AS e
LEFT JOIN staging.people AS p ON p.user_id = e.user_id
WHERE
    e.occurred_at < $cut
    AND e.landed_on <= $landed_by
    AND (e.user_id IS NULL OR p.analytics)
    AND coalesce(e.occurred_at >= p.reset_from, true)
