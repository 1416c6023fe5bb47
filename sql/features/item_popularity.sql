-- One row per item that anybody met before the cut: how many, how much, how lately, and whether more than usual. Anonymous
-- events count as one visitor per visit; only known people count as people, because thresholds protect people.
WITH signals AS (
    SELECT
        unnest($signal_types) AS event_type,
        unnest($signal_weights) AS weight
),

visits AS (
    SELECT
        e.item_id,
        e.user_id,
        e.occurred_on,
        CAST(least(greatest(sum(CAST(
            CASE
                WHEN e.event_type = 'rate' THEN coalesce((e.value - $rating_neutral) / $rating_neutral, 0)
                ELSE coalesce(s.weight, 0)
            END AS DECIMAL(18, 9)
        )), -$daily_cap), $daily_cap) AS DECIMAL(18, 9)) AS weight,
        date_diff('day', e.occurred_on, CAST($cut AT TIME ZONE $timezone AS DATE)) AS age,
        count(*) AS events,
        count(*) FILTER (WHERE list_contains($purchase_types, e.event_type)) AS purchases,
        min(e.occurred_at) AS first_at,
        max(e.occurred_at) AS last_at
    FROM staging.events AS e
    SEMI JOIN staging.items AS i ON i.item_id = e.item_id
    LEFT JOIN signals AS s ON s.event_type = e.event_type
    GROUP BY
        e.item_id,
        e.user_id,
        e.occurred_on,
        CASE WHEN e.user_id IS NULL THEN coalesce(e.session_id, e.event_id) END
),

-- Each person once, with their newest visit: quicker than to count distinct people twice.
met AS (
    SELECT
        item_id,
        user_id,
        min(age) AS age
    FROM visits
    WHERE user_id IS NOT NULL
    GROUP BY item_id, user_id
),

people AS (
    SELECT
        item_id,
        count(*) AS people,
        count(*) FILTER (WHERE age <= 28) AS people_28d
    FROM met
    GROUP BY item_id
),

decays AS (
    SELECT
        *,
        CAST(power(0.5, age / $half_life_days) AS DECIMAL(18, 9)) AS decay
    FROM visits
),

totals AS (
    SELECT
        item_id,
        sum(events) AS events,
        sum(purchases) AS purchases_all,
        sum(purchases) FILTER (WHERE age <= 90) AS purchases_90d,
        sum(purchases) FILTER (WHERE age <= 28) AS purchases_28d,
        sum(purchases) FILTER (WHERE age <= 14) AS purchases_14d,
        sum(purchases) FILTER (WHERE age <= 7) AS purchases_7d,
        sum(decayed(weight, decay)) AS score_all,
        sum(weight) FILTER (WHERE age <= 90) AS score_90d,
        sum(weight) FILTER (WHERE age <= 28) AS score_28d,
        sum(weight) FILTER (WHERE age <= 14) AS score_14d,
        sum(weight) FILTER (WHERE age <= 7) AS score_7d,
        min(first_at) AS first_at,
        max(last_at) AS last_at
    FROM decays
    GROUP BY item_id
)

SELECT
    t.item_id,
    CAST(coalesce(p.people, 0) AS INTEGER) AS people,
    CAST(coalesce(p.people_28d, 0) AS INTEGER) AS people_28d,
    CAST(events AS INTEGER) AS events,
    CAST(purchases_all AS INTEGER) AS purchases_all,
    CAST(coalesce(purchases_90d, 0) AS INTEGER) AS purchases_90d,
    CAST(coalesce(purchases_28d, 0) AS INTEGER) AS purchases_28d,
    CAST(coalesce(purchases_14d, 0) AS INTEGER) AS purchases_14d,
    CAST(coalesce(purchases_7d, 0) AS INTEGER) AS purchases_7d,
    CAST(score_all AS DOUBLE) AS score_all,
    CAST(coalesce(score_90d, 0) AS DOUBLE) AS score_90d,
    CAST(coalesce(score_28d, 0) AS DOUBLE) AS score_28d,
    CAST(coalesce(score_14d, 0) AS DOUBLE) AS score_14d,
    CAST(coalesce(score_7d, 0) AS DOUBLE) AS score_7d,
    CASE WHEN score_28d > 0 THEN greatest(4 * CAST(coalesce(score_7d, 0) AS DOUBLE) / score_28d, 0) ELSE 0 END AS trend,
    first_at,
    last_at
FROM totals AS t
LEFT JOIN people AS p ON p.item_id = t.item_id
ORDER BY t.item_id
