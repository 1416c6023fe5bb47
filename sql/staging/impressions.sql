-- One row per entry that was shown before the cut to somebody who allows analytics, since they last started anew.
-- Unordered, because it is only ever summed. Somebody who is known from nothing else has decided nothing.
SELECT
    i.publication_id,
    i.user_id,
    i.placement,
    i.context,
    i.item_id,
    i.position,
    i.shown_at,
    i.propensity,
    CAST(i.shown_at AT TIME ZONE $timezone AS DATE) AS shown_on,
    i.landed_on
FROM history.impressions AS i
LEFT JOIN staging.people AS p ON p.user_id = i.user_id
WHERE
    i.shown_at < $cut
    AND i.landed_on <= $landed_by
    AND coalesce(p.analytics, $analytics)
    AND coalesce(i.shown_at >= p.reset_from, true)
