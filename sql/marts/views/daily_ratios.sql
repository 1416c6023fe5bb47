-- One row per day: the ratios of that day's sums, empty where there is nothing to divide by. A click-through is a click per
-- view, a conversion a purchase per view or click; money is not here, because currencies are never summed.
WITH days AS (
    SELECT
        occurred_on,
        sum(events) AS events,
        sum(events) FILTER (WHERE event_type = 'view') AS views,
        sum(events) FILTER (WHERE event_type = 'click') AS clicks,
        sum(events) FILTER (WHERE event_type = 'cart_add') AS cart_adds,
        sum(events) FILTER (WHERE event_type = 'return') AS returns,
        sum(purchases) AS purchases,
        sum(helpful) AS helpful,
        sum(listed_events) AS listed_events
    FROM metrics_daily
    GROUP BY occurred_on
)

SELECT
    occurred_on,
    coalesce(clicks, 0) / nullif(views, 0) AS click_through,
    coalesce(cart_adds, 0) / nullif(coalesce(views, 0) + coalesce(clicks, 0), 0) AS cart_rate,
    purchases / nullif(coalesce(views, 0) + coalesce(clicks, 0), 0) AS conversion,
    coalesce(returns, 0) / nullif(purchases, 0) AS return_rate,
    helpful / nullif(events, 0) AS helpful_share,
    listed_events / nullif(events, 0) AS listed_share
FROM days
ORDER BY occurred_on
