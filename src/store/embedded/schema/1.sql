-- Numbers of 64 bits without a sign (units, tokens, limits) are kept as the signed number with the same bits: never add or
-- compare them here, see integer.rs. Times are milliseconds since 1970, days and hours count from 1970.

-- An organisation and a team, together, as keys name them. `live` counts their keys that are not removed.
CREATE TABLE owners (
    number INTEGER PRIMARY KEY,
    org_id TEXT,
    team_id TEXT,
    live INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX owners_by_org ON owners (org_id, team_id);
CREATE INDEX owners_by_team ON owners (team_id);

-- Models, endpoints, dialects, outcomes and reasons, each written once.
CREATE TABLE names (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Keys, removed ones too: a row is for life. The defaults are those of a key that is known only by what it used.
CREATE TABLE keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    removed_at_ms INTEGER,
    owner INTEGER NOT NULL REFERENCES owners (number),
    current BLOB UNIQUE,
    old_secrets INTEGER NOT NULL DEFAULT 0,
    source TEXT NOT NULL DEFAULT 'api',
    name TEXT NOT NULL DEFAULT '',
    key_prefix TEXT NOT NULL DEFAULT '',
    org_id TEXT,
    team_id TEXT,
    models TEXT,
    endpoints TEXT,
    rpm INTEGER,
    tpm INTEGER,
    max_parallel INTEGER,
    quota_limit INTEGER,
    quota_reset TEXT,
    allowed_ips TEXT,
    expires_at_ms INTEGER,
    is_sandbox INTEGER NOT NULL DEFAULT 0,
    on_disconnect TEXT NOT NULL DEFAULT 'cancel',
    is_disabled INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0,
    created_at_ms INTEGER NOT NULL DEFAULT 0,
    updated_at_ms INTEGER NOT NULL DEFAULT 0,
    mask_head TEXT NOT NULL DEFAULT '',
    mask_tail TEXT NOT NULL DEFAULT '',
    extras TEXT
) STRICT;
CREATE INDEX keys_by_time ON keys (created_at_ms) WHERE removed_at_ms IS NULL;
CREATE INDEX keys_by_org_and_time ON keys (org_id, created_at_ms) WHERE removed_at_ms IS NULL AND org_id IS NOT NULL;
CREATE INDEX keys_by_team_and_time ON keys (team_id, created_at_ms) WHERE removed_at_ms IS NULL AND team_id IS NOT NULL;
CREATE INDEX keys_by_org ON keys (org_id) WHERE org_id IS NOT NULL;
CREATE INDEX keys_by_team ON keys (team_id) WHERE team_id IS NOT NULL;

-- What keys are searched by, 128 keys to a row, in the order of their numbers: a search looks at some thousand rows instead of every
-- key's. Kept by sheet.rs, which says how they are packed; a block has a row in each of these tables.
CREATE TABLE block_marks (
    block INTEGER PRIMARY KEY,
    oldest_ms INTEGER NOT NULL,
    newest_ms INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE TABLE block_births (block INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE block_owners (block INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE block_lists (block INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE block_names (block INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE block_prefixes (block INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;

-- Lists of models, each written once. `live` counts the keys that have it; a row of none is written over by the next new list, so
-- that the numbers stay small.
CREATE TABLE model_lists (
    number INTEGER PRIMARY KEY,
    models TEXT NOT NULL UNIQUE,
    live INTEGER NOT NULL
) STRICT;
CREATE INDEX model_lists_of_none ON model_lists (number) WHERE live = 0;

-- Secrets that were replaced. The current one is in `keys`; the writer sees to it that none is in both.
CREATE TABLE old_secrets (
    digest BLOB PRIMARY KEY,
    key_number INTEGER NOT NULL REFERENCES keys (number),
    position INTEGER NOT NULL,
    prefix TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    uses INTEGER NOT NULL DEFAULT 0,
    last_used_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX old_secrets_by_key ON old_secrets (key_number, position);

-- What is counted of a key.
CREATE TABLE states (
    key_number INTEGER PRIMARY KEY REFERENCES keys (number),
    used INTEGER NOT NULL,
    since_day INTEGER NOT NULL,
    touched_day INTEGER NOT NULL,
    last_used_ms INTEGER
) STRICT;

-- One row for each request that was answered, or was to be.
CREATE TABLE records (
    number INTEGER PRIMARY KEY,
    key_number INTEGER NOT NULL REFERENCES keys (number),
    at_ms INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    dialect INTEGER NOT NULL,
    endpoint INTEGER NOT NULL,
    model INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    status INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    audio_ms INTEGER NOT NULL,
    is_estimated INTEGER NOT NULL,
    units INTEGER NOT NULL,
    since_day INTEGER NOT NULL,
    touched_day INTEGER NOT NULL,
    first_byte_us INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    previous_secret BLOB
) STRICT;
CREATE INDEX records_by_time ON records (at_ms);

-- The sums of records that were folded away. `used` and `since_day` are those of the latest count among them.
CREATE TABLE carried (
    key_number INTEGER PRIMARY KEY REFERENCES keys (number),
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    units INTEGER NOT NULL,
    used INTEGER NOT NULL,
    since_day INTEGER NOT NULL
) STRICT;

-- Sums by hour. `requests` are those of every outcome, `recorded` those that became records.
CREATE TABLE hourly (
    number INTEGER PRIMARY KEY,
    hour INTEGER NOT NULL,
    key_number INTEGER NOT NULL REFERENCES keys (number),
    owner INTEGER NOT NULL,
    model INTEGER NOT NULL,
    endpoint INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    units INTEGER NOT NULL,
    first_byte BLOB NOT NULL,
    duration BLOB NOT NULL,
    UNIQUE (hour, key_number, owner, model, endpoint)
) STRICT;
CREATE INDEX hourly_by_key ON hourly (key_number, hour);

-- Refusals of an hour's sum, by reason.
CREATE TABLE refusals (
    hourly INTEGER NOT NULL REFERENCES hourly (number),
    reason INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (hourly, reason)
) STRICT, WITHOUT ROWID;

-- How far each journal is drained, as long as its file may be there.
CREATE TABLE journals (
    id BLOB PRIMARY KEY,
    drained INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who changed what.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    operator TEXT NOT NULL,
    via TEXT NOT NULL,
    action TEXT NOT NULL,
    key_id BLOB,
    org_id TEXT,
    team_id TEXT,
    address TEXT,
    old_values TEXT,
    new_values TEXT
) STRICT;
CREATE INDEX audit_by_key ON audit (key_id) WHERE key_id IS NOT NULL;
CREATE INDEX audit_by_org ON audit (org_id) WHERE org_id IS NOT NULL;
CREATE INDEX audit_by_team ON audit (team_id) WHERE team_id IS NOT NULL;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit is only appended to'); END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'the audit is only appended to'); END;

-- Answers to be given again.
CREATE TABLE remembered (
    operator TEXT NOT NULL,
    key TEXT NOT NULL,
    call BLOB NOT NULL,
    body TEXT NOT NULL,
    seed BLOB,
    etag TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    PRIMARY KEY (operator, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX remembered_by_end ON remembered (until_ms);

-- What the pepper is recognised by; one row.
CREATE TABLE pepper (
    number INTEGER PRIMARY KEY CHECK (number = 1),
    mark BLOB NOT NULL
) STRICT;

-- Operators whose tokens the program made.
CREATE TABLE operators (
    name TEXT PRIMARY KEY,
    token_sha256 BLOB NOT NULL,
    role TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;
