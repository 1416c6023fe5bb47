-- One row per person who allows personalization and told something: the newest profile that had landed by the cut.
WITH landings AS (
    SELECT
        *,
        max(landed_on) OVER () AS newest_landing
    FROM history.users
    WHERE landed_on <= $landed_by
),

profiles AS (
    SELECT *
    FROM landings
    WHERE NOT $users_are_snapshots OR landed_on = newest_landing
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY landed_on DESC, landed_file DESC, landed_row DESC) = 1
)

SELECT
    u.user_id,
    u.birth_year,
    u.gender,
    u.country,
    CASE WHEN p.precise_place THEN u.region END AS region,
    CASE WHEN p.income THEN u.income_band END AS income_band,
    u.language,
    u.timezone,
    u.signup_at,
    u.status
FROM profiles AS u
INNER JOIN staging.people AS p ON p.user_id = u.user_id
WHERE p.personalization
ORDER BY u.user_id
