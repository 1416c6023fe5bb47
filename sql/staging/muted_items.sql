-- One row per topic that anybody muted and item that it covers: by the item's category, any broader category, brand or tag.
WITH topics AS (
    SELECT DISTINCT unnest(muted_topics) AS topic FROM staging.people
),

paths AS (
    SELECT item_id, string_split(lower(category), ' > ') AS parts FROM staging.items WHERE category IS NOT NULL
),

depths AS (
    SELECT item_id, parts, unnest(range(1, len(parts) + 1)) AS depth FROM paths
),

labels AS (
    SELECT item_id, array_to_string(parts[1:depth], ' > ') AS topic FROM depths
    UNION ALL
    SELECT item_id, lower(brand) AS topic FROM staging.items
    UNION ALL
    SELECT item_id, trim(unnest(string_split(lower(tags), '|'))) AS topic FROM staging.items
)

SELECT DISTINCT
    labels.topic,
    labels.item_id
FROM labels
SEMI JOIN topics ON topics.topic = labels.topic
ORDER BY labels.topic, labels.item_id
