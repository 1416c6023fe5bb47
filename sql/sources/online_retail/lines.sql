-- One row per invoice line, typed. What the three landing tables share is said here once.
-- A line is sold if it takes money for goods; the others cancel, return, or correct the stock book.
-- The register writes the shop's wall clock, hence Europe/London. An invoice's lines are numbered in file order.
-- Countries keep the name that ingest standardizes, except the names that only this source uses; a group of
-- countries ('European Community') or of territories ('Channel Islands': JE or GG) is not one, so it is null.
SELECT
    landed_on,
    line,
    InvoiceNo AS invoice,
    row_number() OVER (PARTITION BY InvoiceNo ORDER BY landed_on, line) AS invoice_line,
    upper(trim(StockCode)) AS item_id,
    nullif(trim(Description), '') AS title,
    regexp_replace(CustomerID, '\.0*$', '') AS user_id,
    CAST(InvoiceDate AS TIMESTAMP) AT TIME ZONE 'Europe/London' AS occurred_at,
    CAST(Quantity AS BIGINT) AS pieces,
    CAST(UnitPrice AS DECIMAL(12, 4)) AS price,
    InvoiceNo LIKE 'C%' OR CAST(Quantity AS BIGINT) < 0 AS returned,
    NOT InvoiceNo LIKE 'C%' AND CAST(Quantity AS BIGINT) > 0 AND CAST(UnitPrice AS DECIMAL(12, 4)) > 0 AS sold,
    CASE Country
        WHEN 'EIRE' THEN 'IE'
        WHEN 'RSA' THEN 'ZA'
        WHEN 'USA' THEN 'US'
        WHEN 'Czech Republic' THEN 'CZ'
        WHEN 'Channel Islands' THEN NULL
        WHEN 'European Community' THEN NULL
        WHEN 'Unspecified' THEN NULL
        ELSE Country
    END AS country
FROM invoice_lines
