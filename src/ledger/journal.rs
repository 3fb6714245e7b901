//! A journal: a file in memory that one worker writes settled requests to, and that outlives the process.
//!
//! Appending is a copy of some two hundred bytes under a lock that only the drain ever takes beside the worker, and that for a few
//! instructions. What was appended is in the page cache at once, so that a kill loses nothing; the drain brings it to disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;
use uuid::Uuid;

use crate::ledger::extent::{Extent, FIRST};
use crate::ledger::mapping;
use crate::ledger::sums::Sums;
use crate::store::{Entries, Entry, frame};
use crate::telemetry::metrics::LedgerMetrics;

/// How a journal's file is told from any other.
const MAGIC: [u8; 8] = *b"KWJRNL01";

/// The most bytes that are read for one batch.
const MOST_READ: usize = 1 << 20;

/// Bytes that are read at once: they are still in the processor's cache when they are looked at.
const PIECE: usize = 64 << 10;

/// The end of the name of a journal's file.
pub(super) const EXTENSION: &str = "journal";

/// One worker's journal. Appending never fails and never waits.
#[derive(Debug)]
pub struct Journal {
    id: Uuid,
    path: PathBuf,
    /// Locked for as long as the process lives: what is not locked was left behind.
    file: File,
    writer: Mutex<Writer>,
    /// What does not fit is summed up there.
    sums: Arc<Sums>,
    metrics: LedgerMetrics,
}

#[derive(Debug)]
struct Writer {
    map: MmapMut,
    extent: Extent,
    /// The sequence number of the next entry; the first is 1.
    next: u64,
}

/// Frames that were read: where they end, how many they are, the number of the last.
#[derive(Default)]
struct Frames {
    end: usize,
    count: usize,
    last: u64,
}

impl Journal {
    /// Makes a journal of `size` bytes in `folder`, readable by its owner alone, with all of its blocks.
    ///
    /// # Errors
    /// No room, or no right to.
    pub(super) fn create(folder: &Path, size: usize, sums: Arc<Sums>, metrics: LedgerMetrics) -> io::Result<Self> {
        let id = Uuid::now_v7();
        let path = folder.join(format!("{}.{EXTENSION}", id.simple()));
        let made = Self::prepare(&path, id, size).and_then(|file| mapping::map(&file).map(|map| (file, map)));
        let (file, map) = made.inspect_err(|_| {
            // Half of a journal is of no use to anyone.
            let _ = fs::remove_file(&path);
        })?;
        let writer = Mutex::new(Writer { map, extent: Extent::new(size), next: 1 });
        Ok(Self { id, path, file, writer, sums, metrics })
    }

    /// The same with room for frames of so many bytes.
    pub(super) fn create_for(folder: &Path, room: usize, sums: Arc<Sums>, metrics: LedgerMetrics) -> io::Result<Self> {
        Self::create(folder, FIRST + room, sums, metrics)
    }

    fn prepare(path: &Path, id: Uuid, size: usize) -> io::Result<File> {
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        file.try_lock()?;
        // With its blocks, or a full disk would be met while writing to memory, where there is no error to return.
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size as u64)?;
        file.write_all(&MAGIC)?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
        // And its name: what is brought to disk must be found there.
        sync_folder_of(path)?;
        Ok(file)
    }

    /// Writes down what became of a request. Where there is no room it is added to the sums in memory; one that was refused, of which
    /// only the number counts, is left out when half of the room is taken.
    pub fn append(&self, entry: &Entry<&str>) {
        let length = frame::length(entry);
        let mut writer = self.writer();
        let extent = &mut writer.extent;
        if !entry.outcome.is_recorded() && extent.pending() > extent.capacity() / 2 {
            self.metrics.uncounted.inc();
            return;
        }
        let Some(at) = extent.place(length) else {
            drop(writer);
            self.sums.add(entry);
            return;
        };
        let Writer { map, next, .. } = &mut *writer;
        if let Some(place) = map.get_mut(at..at + length) {
            frame::encode(entry, *next, place);
        }
        *next += 1;
    }

    /// Its identity.
    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    /// The sequence number of its last entry; 0 when there is none.
    pub(super) fn last(&self) -> u64 {
        self.writer().next - 1
    }

    /// Bytes that are not in the store yet.
    pub(super) fn pending(&self) -> usize {
        self.writer().extent.pending()
    }

    /// The oldest entries that are not in the store yet, some thousands at most, and where they stand. They are read into `room`, whatever is in it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn oldest(&self, room: Vec<u8>) -> io::Result<(Entries, Range<usize>)> {
        let Range { start, end } = self.writer().extent.oldest();
        let until = end.min(start + MOST_READ);
        let mut bytes = room;
        if bytes.len() < until - start {
            bytes.resize(until - start, 0);
        }
        let (mut at, mut frames) = (start, Frames::default());
        while at < until {
            let length = PIECE.min(until - at);
            let Some(piece) = bytes.get_mut(frames.end..frames.end + length) else { break };
            // Read as a file and not through the mapping, which the worker writes to meanwhile.
            self.file.read_exact_at(piece, at as u64)?;
            let done = self.look(&mut bytes, &mut frames, length, at, at + length == end);
            if done == 0 {
                break;
            }
            at += done;
        }
        Ok((Entries::of_frames(bytes, frames.end, frames.count, frames.last), start..at))
    }

    /// Looks at so many bytes behind `frames`, which stand at `place`, and says at how many it has looked. Where they are not the last, the
    /// end of them may be half a frame, which is left. What is none is written over by what follows.
    fn look(&self, bytes: &mut [u8], frames: &mut Frames, length: usize, place: usize, are_last: bool) -> usize {
        let from = frames.end;
        let (mut at, end) = (from, from + length);
        while let Some(rest) = bytes.get(at..end).filter(|rest| !rest.is_empty()) {
            match frame::check(rest) {
                Some((sequence, length)) => {
                    if frames.end != at {
                        bytes.copy_within(at..at + length, frames.end);
                    }
                    *frames = Frames { end: frames.end + length, count: frames.count + 1, last: sequence };
                    at += length;
                }
                None if rest.len() < frame::LONGEST && !are_last => break,
                // Memory or disk have changed it. What lies beyond is to be drained all the same.
                None => {
                    tracing::error!(journal = %self.id, place = place + at - from, "a damaged entry is left out");
                    self.metrics.lost.inc();
                    at += frame::STEP;
                }
            }
        }
        at - from
    }

    /// What [`Journal::oldest`] found there is in the store now.
    pub(super) fn advance(&self, done: Range<usize>) {
        self.writer().extent.advance(done);
    }

    /// Brings what was appended to disk: what is not in the store must not be lost with the power either.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Removes its file; nothing may be pending.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove(&self.path)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a journal's file for good, power cuts included.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Entries with their sequence numbers, ascending.
pub(super) type Numbered = Vec<(u64, Entry)>;

/// What a file that was left behind turns out to be.
pub(super) enum Found {
    /// A journal: its identity and its entries in their order.
    Journal(Uuid, Numbered),
    /// One that was never made whole.
    Blank,
    /// Something else.
    Unknown,
}

/// Reads what was left behind. Every frame is looked for by itself, so that what lies beyond a damaged one is found all the same.
pub(super) fn read(file: &File) -> io::Result<Found> {
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(parse(&bytes))
}

/// What its first bytes say of it; without its entries.
pub(super) fn read_head(file: &File) -> io::Result<Found> {
    let mut head = [0; FIRST];
    let count = read_some(file, &mut head, 0)?;
    Ok(parse(&head[..count]))
}

/// Bytes from `at` on, as many as there are.
pub(super) fn read_some(file: &File, bytes: &mut [u8], at: usize) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = bytes.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, (at + count) as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Where the entry with this number stands, if it is anywhere.
pub(super) fn search(file: &File, sequence: u64) -> io::Result<Option<usize>> {
    // A piece begins a frame's length before the last one ended, so that none is missed between two.
    const STRIDE: usize = MOST_READ - frame::LONGEST;
    let mut bytes = vec![0; MOST_READ];
    let mut from = FIRST;
    loop {
        let count = read_some(file, &mut bytes, from)?;
        let found = (0..count).step_by(frame::STEP).find(|at| {
            let rest = bytes.get(*at..count).unwrap_or_default();
            frame::decode(rest).is_some_and(|(found, ..)| found == sequence)
        });
        if found.is_some() || count < MOST_READ {
            return Ok(found.map(|at| from + at));
        }
        from += STRIDE;
    }
}

/// The same of its bytes.
pub(super) fn parse(bytes: &[u8]) -> Found {
    let head = bytes.get(..FIRST).and_then(|head| head.strip_prefix(&MAGIC)).and_then(|rest| rest.first_chunk::<16>());
    let Some(id) = head.map(|id| Uuid::from_bytes(*id)) else {
        let is_blank = bytes.len() < FIRST || bytes.iter().all(|byte| *byte == 0);
        return if is_blank { Found::Blank } else { Found::Unknown };
    };
    let mut entries = Vec::new();
    let mut at = FIRST;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match frame::decode(rest) {
            Some((sequence, entry, length)) => {
                entries.push((sequence, entry.to_owned_text()));
                at += length;
            }
            None => at += frame::STEP,
        }
    }
    entries.sort_by_key(|(sequence, _)| *sequence);
    entries.dedup_by_key(|(sequence, _)| *sequence);
    Found::Journal(id, entries)
}

#[cfg(test)]
mod tests;
