-- One row per person with events: the situation that they were last seen in. A visit is a session, or a day where sessions
-- are not told. Moods exist only where staging let their measurements through, that is, with consent.
WITH latest AS (
    SELECT
        e.user_id,
        e.session_id,
        e.occurred_at,
        e.occurred_on,
        e.device,
        e.country,
        e.region
    FROM staging.events AS e
    INNER JOIN features.user_activity AS a ON a.user_id = e.user_id AND a.last_at = e.occurred_at
    QUALIFY row_number() OVER (PARTITION BY e.user_id ORDER BY e.event_id DESC) = 1
),

moods AS (
    SELECT
        l.user_id,
        2 * count(*) FILTER (WHERE e.scroll_speed > $rapid_scroll) >= nullif(count(e.scroll_speed), 0) AS rapid_scrolling,
        2 * count(*) FILTER (WHERE e.dwell_seconds < $quick_leave_seconds)
        >= nullif(count(e.dwell_seconds), 0) AS quick_leaving
    FROM latest AS l
    INNER JOIN staging.events AS e
        ON
            e.user_id = l.user_id
            AND (e.session_id = l.session_id OR (l.session_id IS NULL AND e.session_id IS NULL AND e.occurred_on = l.occurred_on))
    GROUP BY l.user_id
)

SELECT
    l.user_id,
    l.session_id AS last_session_id,
    l.occurred_at AS last_at,
    l.device,
    CASE extract('hour' FROM l.occurred_at AT TIME ZONE $timezone) // 6
        WHEN 0 THEN 'night'
        WHEN 1 THEN 'morning'
        WHEN 2 THEN 'afternoon'
        ELSE 'evening'
    END AS daypart,
    l.country,
    l.region,
    CAST(date_diff('second', l.occurred_at, $cut) // 3600 AS INTEGER) AS recency_hours,
    m.rapid_scrolling,
    m.quick_leaving
FROM latest AS l
LEFT JOIN moods AS m ON m.user_id = l.user_id
ORDER BY l.user_id
