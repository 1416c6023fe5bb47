-- One version of a customer per landing day: the day of the first line, and each day whose last known country differs
-- from the one before. All the source knows of a person is where the invoice goes.
WITH days AS (
    SELECT
        user_id,
        landed_on,
        arg_max(country, line) FILTER (WHERE country IS NOT NULL) AS country
    FROM lines
    WHERE user_id IS NOT NULL
    GROUP BY user_id, landed_on
),
versions AS (
    SELECT
        user_id,
        landed_on,
        country,
        row_number() OVER before AS place,
        last_value(country IGNORE NULLS) OVER (before ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS known
    FROM days
    WINDOW before AS (PARTITION BY user_id ORDER BY landed_on)
)
SELECT landed_on, user_id, country
FROM versions
WHERE place = 1 OR (country IS NOT NULL AND country IS DISTINCT FROM known)
ORDER BY landed_on, user_id
