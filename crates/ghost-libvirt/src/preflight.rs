//! What must be there before the first VM: looked at when the agent starts, and by its health.

use ghost_core::domain::AppError;

use crate::domain_xml::NWFILTER;
use crate::failure::Failure;
use crate::nat_network;
use crate::storage_pool::volumes;
use crate::sys::Conn;

/// Everything that is missing, each with its remedy.
pub(crate) fn findings(conn: &Conn, network: &str, pool: &str) -> Result<Vec<AppError>, Failure> {
    let mut found = Vec::new();
    let mut note = |result: Result<(), Failure>| match result {
        // Without a connection nothing else can be said.
        Err(Failure::Call(error)) if error.is_of_the_connection() => Err(Failure::Call(error)),
        Err(error) => {
            found.push(error.into());
            Ok(())
        }
        Ok(()) => Ok(()),
    };
    note(nat_network::ready(conn, network).map(drop))?;
    note(volumes::active_pool(conn, pool).and_then(|pool| volumes::path(&pool)).map(drop))?;
    note(nwfilter(conn))?;
    Ok(found)
}

fn nwfilter(conn: &Conn) -> Result<(), Failure> {
    match conn.has_nwfilter(NWFILTER) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::NoFilter(NWFILTER)),
        Err(error) if error.is_unsupported() => Err(Failure::NoFilter(NWFILTER)),
        Err(error) => Err(error.into()),
    }
}
