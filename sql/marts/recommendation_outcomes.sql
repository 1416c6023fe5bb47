-- One row per day, placement, recommender and model version: how many entries were shown, and after how many of them their
-- person clicked, bought or found helpful what was shown. An event counts for the newest entry before it, and only within
-- $outcome_days of it; entries whose time is not over yet are not there. A publication that nobody reported impressions of
-- is assumed to have been shown to those who came while it was served. Few people are nobody's business: no figures.
WITH reported AS (
    SELECT
        i.user_id,
        i.placement,
        i.context,
        i.position,
        i.shown_at,
        i.item_id,
        coalesce(l.recommender, 'unknown') AS recommender,
        coalesce(l.model_version, 'unknown') AS model_version,
        false AS assumed_shown
    FROM staging.impressions AS i
    LEFT JOIN retained.lists AS l
        ON
            l.publication_id = i.publication_id
            AND l.user_id = i.user_id
            AND l.placement = i.placement
            AND l.context = i.context
            AND l.item_id = i.item_id
    WHERE i.shown_at >= $cut - to_days(CAST($outcome_lookback AS INTEGER))
),

unreported AS (
    SELECT
        p.publication_id,
        p.served_from,
        p.served_until
    FROM retained.publications AS p
    WHERE
        NOT EXISTS (
            SELECT 1
            FROM staging.impressions AS i
            WHERE i.shown_at >= p.served_from AND i.shown_at < p.served_until
        )
),

visits AS (
    SELECT
        u.publication_id,
        a.user_id,
        min(a.occurred_at) AS came_at
    FROM staging.activity AS a
    INNER JOIN unreported AS u ON a.occurred_at >= u.served_from AND a.occurred_at < u.served_until
    WHERE a.user_id IS NOT NULL
    GROUP BY u.publication_id, a.user_id
),

shown AS (
    SELECT * FROM reported
    UNION ALL
    SELECT
        l.user_id,
        l.placement,
        l.context,
        l.position,
        v.came_at AS shown_at,
        l.item_id,
        l.recommender,
        l.model_version,
        true AS assumed_shown
    FROM retained.lists AS l
    INNER JOIN visits AS v ON v.publication_id = l.publication_id AND v.user_id = l.user_id
    WHERE l.position <= $outcome_positions
),

settled AS (
    SELECT *
    FROM shown
    WHERE shown_at + to_days(CAST($outcome_days AS INTEGER)) <= $cut
),

signals AS (
    SELECT
        user_id,
        event_id,
        item_id,
        occurred_at,
        list_contains($click_types, event_type) AS click,
        list_contains($purchase_types, event_type) AS purchase,
        list_contains($helpful_types, event_type)
        OR (event_type = 'rate' AND coalesce(value >= $helpful_rating, false)) AS helpful
    FROM staging.activity
    WHERE
        user_id IS NOT NULL
        AND item_id IS NOT NULL
        AND occurred_at >= $cut - to_days(CAST($outcome_lookback AS INTEGER))
),

credited AS (
    SELECT
        o.user_id,
        o.placement,
        o.context,
        o.position,
        o.shown_at,
        s.click,
        s.purchase,
        s.helpful
    FROM signals AS s
    INNER JOIN shown AS o
        ON
            o.user_id = s.user_id
            AND o.item_id = s.item_id
            AND s.occurred_at >= o.shown_at
            AND s.occurred_at < o.shown_at + to_days(CAST($outcome_days AS INTEGER))
    WHERE s.click OR s.purchase OR s.helpful
    QUALIFY row_number() OVER (
        PARTITION BY s.user_id, s.event_id, o.placement ORDER BY o.shown_at DESC, o.context, o.position
    ) = 1
),

followed AS (
    SELECT
        user_id,
        placement,
        context,
        position,
        shown_at,
        bool_or(click) AS click,
        bool_or(purchase) AS purchase,
        bool_or(helpful) AS helpful
    FROM credited
    GROUP BY user_id, placement, context, position, shown_at
),

counted AS (
    SELECT
        CAST(o.shown_at AT TIME ZONE $timezone AS DATE) AS shown_on,
        o.placement,
        o.recommender,
        o.model_version,
        o.assumed_shown,
        count(*) AS impressions,
        count(*) FILTER (WHERE f.click) AS clicks,
        count(*) FILTER (WHERE f.purchase) AS purchases,
        count(*) FILTER (WHERE f.helpful) AS helpful,
        count(DISTINCT o.user_id) AS people,
        count(DISTINCT o.user_id) >= $min_people AS told
    FROM settled AS o
    LEFT JOIN followed AS f
        ON
            f.user_id = o.user_id
            AND f.placement = o.placement
            AND f.context = o.context
            AND f.position = o.position
            AND f.shown_at = o.shown_at
    GROUP BY
        CAST(o.shown_at AT TIME ZONE $timezone AS DATE), o.placement, o.recommender, o.model_version, o.assumed_shown
)

SELECT
    shown_on,
    placement,
    recommender,
    model_version,
    assumed_shown,
    CASE WHEN told THEN CAST(impressions AS BIGINT) END AS impressions,
    CASE WHEN told THEN CAST(clicks AS BIGINT) END AS clicks,
    CASE WHEN told THEN CAST(purchases AS BIGINT) END AS purchases,
    CASE WHEN told THEN CAST(helpful AS BIGINT) END AS helpful,
    CASE WHEN told THEN CAST(people AS BIGINT) END AS people,
    CASE WHEN told THEN CAST(clicks AS DOUBLE) / impressions END AS click_share,
    CASE WHEN told THEN CAST(purchases AS DOUBLE) / impressions END AS purchase_share,
    CASE WHEN told THEN CAST(helpful AS DOUBLE) / impressions END AS helpful_share
FROM counted
ORDER BY shown_on, placement, recommender, model_version, assumed_shown
