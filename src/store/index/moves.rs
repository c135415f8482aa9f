//! Blobs that go from one volume to another, and volumes that leave the store.
//!
//! The chunks of the copy are named by a row of `moves` from before the first of them is written. The transaction
//! that gives the blob its new place takes that row away and dooms the old chunks; a start that finds such a row
//! dooms what it names.

use redb::{Database, ReadableDatabase, ReadableTable};

use super::{MOVES, Tables, begin};
use crate::model::Sha256;
use crate::store::error::Failure;
use crate::store::records::{BlobId, MoveRow, PartialRow, Row};

impl Tables<'_> {
    /// Gives out a blob id for a copy in `volume`.
    pub(in crate::store) fn begin_move(&mut self, volume: u32) -> Result<BlobId, Failure> {
        self.add_volume(volume)?;
        let id = self.allocate()?;
        self.moves.insert(id.0, MoveRow { volume }.encode().as_slice())?;
        Ok(id)
    }

    /// The copy is whole and on disk: from now on the blob has its place. Whether that was so still: the blob may
    /// have gone, or have been stored anew, and then the copy is doomed.
    pub(in crate::store) fn end_move(
        &mut self,
        sha: &Sha256,
        from: BlobId,
        copy: BlobId,
    ) -> Result<bool, Failure> {
        let Some(volume) = self.take_move(copy)? else { return Ok(false) };
        let Some(mut blob) = self.blob(sha)?.filter(|blob| blob.id == from) else {
            self.doom(copy, volume)?;
            return Ok(false);
        };
        self.doom(from, blob.volume)?;
        (blob.id, blob.volume) = (copy, volume);
        self.put_blob(sha, &blob)?;
        Ok(true)
    }

    /// The copy is given up.
    pub(in crate::store) fn abandon_move(&mut self, copy: BlobId) -> Result<(), Failure> {
        match self.take_move(copy)? {
            Some(volume) => self.doom(copy, volume),
            None => Ok(()),
        }
    }

    fn take_move(&mut self, copy: BlobId) -> Result<Option<u32>, Failure> {
        let row = self.moves.remove(copy.0)?;
        Ok(row.map(|row| MoveRow::decode(row.value())).transpose()?.map(|row| row.volume))
    }

    /// Takes a volume out of the store, unless something in it is named. Whether that was done.
    pub(in crate::store) fn drop_volume(&mut self, number: u32) -> Result<bool, Failure> {
        if self.names_volume(number)? {
            return Ok(false);
        }
        self.volumes.remove(number)?;
        Ok(true)
    }

    /// Looks at every row, which is done only of volumes that hold nothing.
    fn names_volume(&self, number: u32) -> Result<bool, Failure> {
        use crate::store::records::{BlobRow, DeletionRow};

        for item in self.deletions.iter()? {
            if DeletionRow::decode(item?.1.value())?.volume == number {
                return Ok(true);
            }
        }
        for item in self.moves.iter()? {
            if MoveRow::decode(item?.1.value())?.volume == number {
                return Ok(true);
            }
        }
        for item in self.partials.iter()? {
            if PartialRow::decode(item?.1.value())?.volume == number {
                return Ok(true);
            }
        }
        for item in self.blobs.iter()? {
            if BlobRow::decode(item?.1.value())?.volume == number {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Dooms the copies of an earlier run. There is no transaction where there are none.
pub(in crate::store) fn abandon_moves(database: &Database) -> Result<(), Failure> {
    let copies = {
        let rows = database.begin_read()?.open_table(MOVES)?;
        let ids = rows.iter()?.map(|item| Ok(BlobId(item?.0.value())));
        ids.collect::<Result<Vec<_>, Failure>>()?
    };
    if copies.is_empty() {
        return Ok(());
    }
    let txn = begin(database)?;
    let mut tables = Tables::open(&txn)?;
    copies.into_iter().try_for_each(|copy| tables.abandon_move(copy))?;
    drop(tables);
    Ok(txn.commit()?)
}
