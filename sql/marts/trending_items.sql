-- One row per segment and place: what is met most in the last four weeks, a week ago counting half. Segments are all, and
-- each country. An item needs $min_people distinct known people of the segment behind it before anybody else sees it.
WITH signals AS (
    SELECT
        unnest($signal_types) AS event_type,
        unnest($signal_weights) AS weight
),

visits AS (
    SELECT
        e.country,
        e.item_id,
        e.user_id,
        date_diff('day', e.occurred_on, CAST($cut AT TIME ZONE $timezone AS DATE)) AS age,
        CAST(least(greatest(sum(CAST(
            CASE
                WHEN e.event_type = 'rate' THEN coalesce((e.value - $rating_neutral) / $rating_neutral, 0)
                ELSE coalesce(s.weight, 0)
            END AS DECIMAL(18, 9)
        )), -$daily_cap), $daily_cap) AS DECIMAL(18, 9)) AS weight
    FROM staging.events AS e
    INNER JOIN features.item_attributes AS i ON i.item_id = e.item_id AND i.recommendable AND NOT i.sensitive
    LEFT JOIN signals AS s ON s.event_type = e.event_type
    WHERE e.occurred_on >= CAST($cut AT TIME ZONE $timezone AS DATE) - INTERVAL 28 DAY
    GROUP BY
        e.country,
        e.item_id,
        e.user_id,
        e.occurred_on,
        CASE WHEN e.user_id IS NULL THEN coalesce(e.session_id, e.event_id) END
),

decays AS (
    SELECT
        *,
        CAST(power(0.5, age / 7) AS DECIMAL(18, 9)) AS decay
    FROM visits
),

scores AS (
    SELECT
        CASE WHEN grouping(country) = 1 THEN 'all' ELSE country END AS segment,
        item_id,
        sum(decayed(weight, decay)) AS score,
        count(DISTINCT user_id) AS people
    FROM decays
    GROUP BY GROUPING SETS ((item_id), (country, item_id))
)

SELECT
    segment,
    CAST(row_number() OVER (PARTITION BY segment ORDER BY score DESC, people DESC, item_id) AS INTEGER) AS position,
    item_id,
    CAST(score AS DOUBLE) AS score,
    CAST(people AS INTEGER) AS people
FROM scores
WHERE people >= $min_people AND score > 0 AND segment IS NOT NULL AND segment <> 'ZZ'
QUALIFY position <= $trending_items
ORDER BY segment, position
