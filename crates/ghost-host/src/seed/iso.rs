//! A raw ISO 9660 image with Joliet and Rock Ridge names.
//!
//! Invariant: it is labelled `cidata`, holds exactly the given files under exactly their names, and
//! no date but [`EPOCH`], so that the same files give the same bytes.

use std::io::Cursor;
use std::sync::Arc;

use hadris_iso::joliet::JolietLevel;
use hadris_iso::read::PathSeparator;
use hadris_iso::rrip::RripOptions;
use hadris_iso::write::options::{CreationFeatures, IsoFormatOptions};
use hadris_iso::write::{File as IsoFile, InputFiles, IsoImageWriter};

/// What cloud-init looks for (cloud-init, "NoCloud").
const LABEL: &str = "cidata";
const SECTOR: usize = 2048;
/// Where the volume descriptors begin (ECMA-119, 6.2.1).
const FIRST_DESCRIPTOR: usize = 16 * SECTOR;
/// Offsets in a volume descriptor (ECMA-119, 8.4): its root directory's record, its dates.
const ROOT_RECORD: usize = 156;
const CREATED: usize = 813;
const MODIFIED: usize = 830;
/// Offset of the date in a directory record (ECMA-119, 9.1).
const RECORD_DATE: usize = 18;
/// 1980-01-01 00:00:00 UTC as a directory's date (ECMA-119, 9.1.5).
const EPOCH: [u8; 7] = [80, 1, 1, 0, 0, 0, 0];
/// The same as a volume's date (ECMA-119, 8.4.26.1).
const VOLUME_EPOCH: &[u8; 17] = b"1980010100000000\0";

/// The image could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum IsoError {
    /// hadris-iso failed.
    #[error("the files can't be laid out")]
    Write(#[from] hadris_iso::write::Error),
    /// What was written isn't an ISO 9660 image.
    #[error("the written image ends early")]
    Malformed,
}

/// An image that holds `files`, each a name and a content.
pub(super) fn image<const N: usize>(files: [(&str, String); N]) -> Result<Vec<u8>, IsoError> {
    let files = files
        .into_iter()
        .map(|(name, content)| IsoFile::File {
            name: Arc::new(name.to_owned()),
            contents: content.into_bytes(),
        })
        .collect();
    let input = InputFiles { path_separator: PathSeparator::ForwardSlash, files };
    let mut image = IsoImageWriter::create(Cursor::new(Vec::new()), input, options())?.into_inner();
    image.resize(image.len().next_multiple_of(SECTOR), 0);
    fix_dates(&mut image).ok_or(IsoError::Malformed)?;
    Ok(image)
}

fn options() -> IsoFormatOptions {
    let rock_ridge = RripOptions { preserve_timestamps: false, ..RripOptions::default() };
    IsoFormatOptions {
        volume_name: LABEL.to_owned(),
        system_id: None,
        volume_set_id: None,
        publisher_id: None,
        preparer_id: None,
        application_id: None,
        sector_size: SECTOR,
        path_separator: PathSeparator::ForwardSlash,
        strict_charset: false,
        features: CreationFeatures {
            joliet: Some(JolietLevel::Level3),
            rock_ridge: Some(rock_ridge),
            ..CreationFeatures::extensions()
        },
    }
}

/// hadris-iso stamps the time of writing on everything and can't be told another one.
fn fix_dates(image: &mut [u8]) -> Option<()> {
    let mut at = FIRST_DESCRIPTOR;
    loop {
        let descriptor = image.get_mut(at..at + SECTOR)?;
        // The type of the terminator (ECMA-119, 8.1.1).
        if descriptor[0] == 255 {
            return Some(());
        }
        for date in [CREATED, MODIFIED] {
            descriptor[date..date + VOLUME_EPOCH.len()].copy_from_slice(VOLUME_EPOCH);
        }
        let root = &mut descriptor[ROOT_RECORD..ROOT_RECORD + 34];
        fix_date(root)?;
        let (extent, length) = (number(root, 2)?, number(root, 10)?);
        let start = extent.checked_mul(SECTOR)?;
        fix_directory(image.get_mut(start..start.checked_add(length)?)?)?;
        at += SECTOR;
    }
}

fn fix_directory(records: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while at < records.len() {
        let length = usize::from(records[at]);
        if length == 0 {
            // No record crosses a sector's end (ECMA-119, 6.8.1.1).
            at = (at + 1).next_multiple_of(SECTOR);
        } else {
            fix_date(records.get_mut(at..at + length)?)?;
            at += length;
        }
    }
    Some(())
}

fn fix_date(record: &mut [u8]) -> Option<()> {
    record.get_mut(RECORD_DATE..RECORD_DATE + EPOCH.len())?.copy_from_slice(&EPOCH);
    Some(())
}

fn number(record: &[u8], at: usize) -> Option<usize> {
    let bytes = record.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}
