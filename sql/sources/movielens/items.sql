-- One row per film, landing once. A film is known when its year is over, or when somebody rates or tags it before that.
-- Whether and when anybody rates it later decides nothing, else a film nobody has touched would say that nobody will.
-- Films older than the first month land with it; one with neither a year nor a person cannot be dated and stays away.
WITH films AS (
    SELECT
        movieId AS item_id,
        trim(title) AS title,
        string_split(nullif(genres, '(no genres listed)'), '|') AS genres,
        -- 'Title (1995)', a series also 'Title (2006–2007)'.
        CAST(nullif(regexp_extract(title, '\(([0-9]{4})([–-][0-9]{0,4})?\)\s*$', 1), '') AS INTEGER) AS released
    FROM movies
),

touches AS (
    SELECT item_id, min(occurred_at) AS first_at
    FROM events
    GROUP BY item_id
),

known AS (
    SELECT
        films.*,
        least(CAST(make_date(films.released, 12, 31) AS TIMESTAMP) AT TIME ZONE 'UTC', touches.first_at) AS created_at
    FROM films
    LEFT JOIN touches ON touches.item_id = films.item_id
)

SELECT
    greatest(
        last_day(CAST(created_at AT TIME ZONE 'UTC' AS DATE)), (SELECT min(landed_on) FROM events)
    ) AS landed_on,
    item_id,
    title,
    -- Genres are a set in alphabetical order, not a path: all of them are tags, the first stands for the kind of film.
    genres[1] AS category,
    array_to_string(genres, '|') AS tags,
    created_at,
    'approved' AS review_status
FROM known
WHERE created_at IS NOT NULL
ORDER BY landed_on, item_id
