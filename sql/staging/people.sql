-- One row per known person: what each purpose may use as of the cut. The newest decision wins; anything but a readable
-- yes is a no; without a decision the purpose's basis decides ($personalization, …: true where it needs no consent).
WITH known AS (
    SELECT user_id FROM history.events WHERE user_id IS NOT NULL AND occurred_at < $cut AND landed_on <= $landed_by
    UNION
    SELECT user_id FROM history.users WHERE landed_on <= $landed_by
    UNION
    SELECT user_id FROM history.consents WHERE recorded_at < $cut AND landed_on <= $landed_by
),

decisions AS (
    SELECT
        user_id,
        lower(trim(purpose)) AS purpose,
        coalesce(lower(granted) IN ('true', 't', 'yes', 'y', '1'), false) AS granted
    FROM history.consents
    WHERE recorded_at < $cut AND landed_on <= $landed_by
    QUALIFY row_number() OVER (
        PARTITION BY user_id, lower(trim(purpose))
        ORDER BY recorded_at DESC, landed_on DESC, landed_file DESC, landed_row DESC
    ) = 1
)

SELECT
    known.user_id,
    coalesce(bool_or(granted) FILTER (WHERE purpose = 'personalization'), $personalization) AS personalization,
    coalesce(bool_or(granted) FILTER (WHERE purpose = 'analytics'), $analytics) AS analytics,
    coalesce(bool_or(granted) FILTER (WHERE purpose = 'mood_signals'), $mood_signals) AS mood_signals,
    coalesce(bool_or(granted) FILTER (WHERE purpose = 'precise_place'), $precise_place) AS precise_place,
    coalesce(bool_or(granted) FILTER (WHERE purpose = 'income'), $income) AS income,
    coalesce(bool_or(granted) FILTER (WHERE purpose = 'experiments'), $experiments) AS experiments,
    coalesce(bool_or(granted) FILTER (WHERE purpose = 'marketing'), $marketing) AS marketing
FROM known
LEFT JOIN decisions ON decisions.user_id = known.user_id
GROUP BY known.user_id
ORDER BY known.user_id
