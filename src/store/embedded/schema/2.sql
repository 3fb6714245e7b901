-- One record for each request that was answered, or was to be: those that were written down together, many to a row, as block.rs packs
-- them. Nobody looks for a record by anything but its time, and a row for each cost several times as much as all else that is
-- written of a request. What `records` has from before stays there until it is folded away; nothing is added to it.
CREATE TABLE record_blocks (
    number INTEGER PRIMARY KEY,
    oldest_ms INTEGER NOT NULL,
    newest_ms INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
-- With the newest of each, so that a time is found without looking at the blocks before it.
CREATE INDEX record_blocks_by_time ON record_blocks (oldest_ms, newest_ms);
