//! How an end of a channel goes along when a process is started that no fork makes.
//!
//! It is copied, as by a fork: who first uses a copy has the end. Afterwards no copy that was never used closes the end
//! when it is dropped, since another may be on its way. An end that is in use does not travel: its copy could only be
//! refused.
//!
//! A new program is not reached by the heavy fences of others before it asks for them, and it does so here, before it
//! can use the end: so sleepers at the other end are seen by it.

use std::sync::OnceLock;

use super::{Layout, Side};
use crate::{
    error::HandleError,
    primitive::meets_heavy_fences,
    region::{Packer, Portable, Unpacker, portable},
};

portable!(Layout { capacity, record, header, most });

impl<const SENDS: bool> Portable for Side<SENDS> {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        if !self.mine().claim.state().is_free() {
            return Err(HandleError::Bound { what: "the end of the channel is in use" });
        }
        let _ = self.copied.set(());
        self.lane.pack(packer)?;
        self.bytes.pack(packer)?;
        self.layout.pack(packer)?;
        usize::from(self.fences).pack(packer)?;
        usize::from(self.trusts).pack(packer)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Self, HandleError> {
        let (lane, bytes) = (Portable::unpack(unpacker)?, Portable::unpack(unpacker)?);
        let layout = Layout::unpack(unpacker)?;
        let [fences, trusts] = [usize::unpack(unpacker)? != 0, usize::unpack(unpacker)? != 0];
        if fences && !meets_heavy_fences() {
            return Err(HandleError::Bound {
                what: "the channel needs membarrier(2), which is forbidden here",
            });
        }
        let mut side = Side::new(lane, bytes, layout, fences, trusts);
        side.copied = OnceLock::from(());
        Ok(side)
    }
}
