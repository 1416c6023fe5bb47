-- One row per known person: what each purpose may use as of the cut, and how the person wants it. The newest decision wins;
-- anything but a readable yes is a no; without a decision the purpose's basis decides ($personalization, …: true where it
-- needs no consent). What cannot be read of a control is taken as the more careful value.
WITH RECURSIVE known AS (
    SELECT user_id FROM history.events WHERE user_id IS NOT NULL AND occurred_at < $cut AND landed_on <= $landed_by
    UNION
    SELECT user_id FROM history.users WHERE landed_on <= $landed_by
    UNION
    SELECT user_id FROM history.consents WHERE recorded_at < $cut AND landed_on <= $landed_by
    UNION
    SELECT user_id FROM history.controls WHERE changed_at < $cut AND landed_on <= $landed_by
    UNION
    SELECT user_id FROM history.privacy_requests WHERE requested_at < $cut AND landed_on <= $landed_by
),

consents AS (
    SELECT
        user_id,
        lower(trim(purpose)) AS purpose,
        coalesce(lower(granted) IN ('true', 't', 'yes', 'y', '1'), false) AS granted,
        recorded_at
    FROM history.consents
    WHERE recorded_at < $cut AND landed_on <= $landed_by
    QUALIFY row_number() OVER (
        PARTITION BY user_id, lower(trim(purpose))
        ORDER BY recorded_at DESC, landed_on DESC, landed_file DESC, landed_row DESC
    ) = 1
),

decisions AS (
    SELECT
        user_id,
        bool_or(granted) FILTER (WHERE purpose = 'personalization') AS personalization,
        max(recorded_at) FILTER (WHERE purpose = 'personalization' AND granted) AS personalized_from,
        bool_or(granted) FILTER (WHERE purpose = 'analytics') AS analytics,
        bool_or(granted) FILTER (WHERE purpose = 'mood_signals') AS mood_signals,
        bool_or(granted) FILTER (WHERE purpose = 'precise_place') AS precise_place,
        bool_or(granted) FILTER (WHERE purpose = 'income') AS income,
        bool_or(granted) FILTER (WHERE purpose = 'experiments') AS experiments,
        bool_or(granted) FILTER (WHERE purpose = 'marketing') AS marketing
    FROM consents
    GROUP BY user_id
),

links AS (
    SELECT user_id, linked_user_id FROM history.identities WHERE linked_at < $cut AND landed_on <= $landed_by
    UNION
    SELECT linked_user_id AS user_id, user_id AS linked_user_id
    FROM history.identities
    WHERE linked_at < $cut AND landed_on <= $landed_by
),

requests AS (
    SELECT user_id, kind, requested_at, verified_at
    FROM history.privacy_requests
    WHERE requested_at < $cut AND landed_on <= $landed_by
    QUALIFY row_number() OVER (
        PARTITION BY user_id, request_id ORDER BY landed_on DESC, landed_file DESC, landed_row DESC
    ) = 1
),

-- Who asks under one id asks for all that are linked to it.
reached AS (
    SELECT user_id AS asked_as, user_id FROM requests WHERE kind IN ('restrict', 'object', 'lift')
    UNION
    SELECT reached.asked_as, links.linked_user_id AS user_id
    FROM reached
    INNER JOIN links ON links.user_id = reached.user_id
),

-- To be left alone nobody has to prove who they are; to take that back they have to.
limits AS (
    SELECT
        reached.user_id,
        max(requests.requested_at) FILTER (WHERE kind = 'restrict') AS restricted_at,
        max(requests.requested_at) FILTER (WHERE kind = 'object') AS objected_at,
        max(requests.requested_at) FILTER (WHERE kind = 'lift' AND verified_at IS NOT NULL) AS lifted_at
    FROM requests
    INNER JOIN reached ON reached.asked_as = requests.user_id
    GROUP BY reached.user_id
),

profiles AS (
    SELECT user_id, birth_year
    FROM history.users
    WHERE landed_on <= $landed_by
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY landed_on DESC, landed_file DESC, landed_row DESC) = 1
),

changes AS (
    SELECT
        *,
        row_number() OVER (newest_first) AS age,
        CASE WHEN reset_from IS NOT NULL THEN coalesce(try_cast(reset_from AS TIMESTAMPTZ), changed_at) END AS reset_at
    FROM history.controls
    WHERE changed_at < $cut AND landed_on <= $landed_by
    WINDOW newest_first AS (
        PARTITION BY user_id ORDER BY changed_at DESC, landed_on DESC, landed_file DESC, landed_row DESC
    )
),

resets AS (
    SELECT user_id, reset_at
    FROM changes
    WHERE reset_at IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY age) = 1
),

controls AS (
    SELECT
        user_id,
        CASE WHEN level IS NULL THEN 1 ELSE try_cast(level AS DECIMAL(9, 6)) END AS level,
        CASE WHEN novelty_share IS NULL THEN 0 ELSE try_cast(novelty_share AS DECIMAL(9, 6)) END AS novelty_share,
        regexp_split_to_array(trim(lower(muted_topics)), '\s*\|\s*') AS muted_topics,
        coalesce(lower(trim(paused)) NOT IN ('false', 'f', 'no', 'n', '0', ''), false) AS paused
    FROM changes
    WHERE age = 1
),

people AS (
    SELECT
        known.user_id,
        decisions.* EXCLUDE (user_id),
        CASE WHEN c.user_id IS NULL THEN 1 WHEN c.level BETWEEN 0 AND 1 THEN c.level ELSE 0 END AS level,
        CASE WHEN c.novelty_share BETWEEN 0 AND 1 THEN c.novelty_share ELSE 0 END AS novelty_share,
        c.muted_topics,
        resets.reset_at AS reset_from,
        coalesce(c.paused, false) AS paused,
        limits.restricted_at IS NOT NULL AND coalesce(limits.restricted_at >= limits.lifted_at, true) AS restricted,
        limits.objected_at IS NOT NULL
        AND coalesce(limits.objected_at >= greatest(limits.lifted_at, decisions.personalized_from), true) AS objected,
        -- Nobody has their birthday before it: the year alone makes them the younger of two ages.
        coalesce(
            extract('year' FROM $cut AT TIME ZONE $timezone) - profiles.birth_year - 1 < $minimum_profiled_age, false
        ) AS young
    FROM known
    LEFT JOIN decisions ON decisions.user_id = known.user_id
    LEFT JOIN limits ON limits.user_id = known.user_id
    LEFT JOIN profiles ON profiles.user_id = known.user_id
    LEFT JOIN controls AS c ON c.user_id = known.user_id
    LEFT JOIN resets ON resets.user_id = known.user_id
),

judged AS (
    SELECT
        *,
        CASE
            WHEN restricted THEN 'restriction'
            WHEN objected THEN 'objection'
            WHEN young THEN 'age'
            WHEN NOT coalesce(personalization, $personalization) THEN 'consent'
            WHEN paused THEN 'pause'
            WHEN level = 0 THEN 'level'
        END AS withheld_because
    FROM people
)

SELECT
    user_id,
    withheld_because IS NULL AS personalization,
    coalesce(analytics, $analytics) AND NOT restricted AS analytics,
    coalesce(mood_signals, $mood_signals) AND NOT restricted AS mood_signals,
    coalesce(precise_place, $precise_place) AND NOT restricted AS precise_place,
    coalesce(income, $income) AND NOT restricted AS income,
    coalesce(experiments, $experiments) AND NOT restricted AS experiments,
    coalesce(marketing, $marketing) AND NOT restricted AS marketing,
    withheld_because,
    CAST(level AS DOUBLE) AS level,
    CAST(novelty_share AS DOUBLE) AS novelty_share,
    muted_topics,
    reset_from
FROM judged
ORDER BY user_id
