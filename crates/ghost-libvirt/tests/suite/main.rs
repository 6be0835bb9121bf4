//! The ports against libvirt: its test driver, and (`real_qemu_…`) a libvirtd that runs QEMU.
//! What is checked is looked at through virsh, not through the code under test.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod real_disk_errors;
#[cfg(test)]
mod real_domains;
#[cfg(test)]
mod real_kept;
#[cfg(test)]
mod real_network;
#[cfg(test)]
mod real_outages;
#[cfg(test)]
mod real_storage;
#[cfg(test)]
mod real_tuning;
#[cfg(test)]
mod test_driver;
#[cfg(test)]
mod world;
