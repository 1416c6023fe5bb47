-- One row per person with events: recency, frequency and money as fifths of all such people, and the name of the group.
-- Equal figures get equal fifths, whatever the ids. Money is compared among those whose main currency is the same.
WITH fifths AS (
    SELECT
        user_id,
        recency_days,
        days,
        purchases,
        currency,
        spend,
        date_diff(
            'day',
            CAST(first_at AT TIME ZONE $timezone AS DATE),
            CAST($cut AT TIME ZONE $timezone AS DATE)
        ) AS known_days,
        1 + 5 * (rank() OVER (ORDER BY recency_days DESC) - 1) // count(*) OVER () AS recency,
        1 + 5 * (rank() OVER (ORDER BY days) - 1) // count(*) OVER () AS frequency,
        CASE
            WHEN spend IS NOT NULL
                THEN
                    1
                    + 5 * (rank() OVER (PARTITION BY currency, spend IS NULL ORDER BY spend) - 1)
                    // count(*) OVER (PARTITION BY currency, spend IS NULL)
        END AS money
    FROM features.user_activity
)

SELECT
    user_id,
    CASE
        WHEN known_days <= 28 THEN 'new'
        WHEN recency >= 4 AND frequency >= 4 THEN 'champions'
        WHEN recency >= 3 AND frequency >= 3 THEN 'loyal'
        WHEN recency >= 3 THEN 'occasional'
        WHEN frequency >= 3 THEN 'at_risk'
        ELSE 'lapsed'
    END AS segment,
    CAST(recency AS INTEGER) AS recency,
    CAST(frequency AS INTEGER) AS frequency,
    CAST(money AS INTEGER) AS money,
    recency_days,
    days,
    purchases,
    currency,
    spend
FROM fifths
ORDER BY user_id
