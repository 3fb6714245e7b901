//! What SQLite says went wrong, in the words of the contract.

use rusqlite::{Error, ErrorCode, ffi};

use crate::store::StoreFault;

impl From<Error> for StoreFault {
    fn from(error: Error) -> Self {
        // The texts are SQLite's own: names of tables and columns, never a value.
        let said = error.to_string();
        match &error {
            Error::SqliteFailure(failure, _) => of_code(*failure, said),
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..) => Self::Damaged(said),
            _ => Self::Unavailable(said),
        }
    }
}

fn of_code(failure: ffi::Error, said: String) -> StoreFault {
    match failure.extended_code {
        ffi::SQLITE_IOERR_CORRUPTFS | ffi::SQLITE_IOERR_DATA => return StoreFault::Damaged(said),
        ffi::SQLITE_READONLY_DBMOVED => return StoreFault::Unavailable(said),
        _ => {}
    }
    match failure.code {
        ErrorCode::DiskFull => StoreFault::Full(said),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreFault::ReadOnly(said),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            StoreFault::Locked(said)
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreFault::Damaged(said),
        _ => StoreFault::Unavailable(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_accident_has_its_name() {
        let fault = |code| StoreFault::from(Error::SqliteFailure(ffi::Error::new(code), None)).as_str();
        assert_eq!(fault(ffi::SQLITE_FULL), "full");
        assert_eq!(fault(ffi::SQLITE_READONLY), "read_only");
        assert_eq!(fault(ffi::SQLITE_READONLY_DIRECTORY), "read_only");
        assert_eq!(fault(ffi::SQLITE_BUSY), "locked");
        assert_eq!(fault(ffi::SQLITE_BUSY_SNAPSHOT), "locked");
        assert_eq!(fault(ffi::SQLITE_CORRUPT), "damaged");
        assert_eq!(fault(ffi::SQLITE_NOTADB), "damaged");
        assert_eq!(fault(ffi::SQLITE_IOERR_CORRUPTFS), "damaged");
        assert_eq!(fault(ffi::SQLITE_IOERR_WRITE), "unavailable");
        assert_eq!(fault(ffi::SQLITE_CANTOPEN), "unavailable");
    }
}
