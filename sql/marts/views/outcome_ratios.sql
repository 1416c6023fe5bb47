-- One row per placement, recommender, model version and way of knowing: ratios of the sums over all days that have figures.
SELECT
    placement,
    recommender,
    model_version,
    assumed_shown,
    min(shown_on) AS first_day,
    max(shown_on) AS last_day,
    sum(impressions) AS impressions,
    sum(clicks) AS clicks,
    sum(purchases) AS purchases,
    sum(helpful) AS helpful,
    sum(clicks) / nullif(sum(impressions), 0) AS click_share,
    sum(purchases) / nullif(sum(impressions), 0) AS purchase_share,
    sum(helpful) / nullif(sum(impressions), 0) AS helpful_share
FROM recommendation_outcomes
WHERE impressions IS NOT NULL
GROUP BY placement, recommender, model_version, assumed_shown
ORDER BY placement, recommender, model_version, assumed_shown
