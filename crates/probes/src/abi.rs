//! The records of `bpf/include/events.h`, member by member; a test compares both.

/// Offsets and sizes of one C struct: its name, its size, and each member that is read or written.
pub(crate) struct Layout {
    /// Name of the struct.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(crate) name: &'static str,
    /// `sizeof`.
    pub(crate) size: usize,
    /// Name, offset and size of each member.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(crate) members: &'static [(&'static str, usize, usize)],
}

/// Declares a struct that has the C layout, and its [`Layout`].
macro_rules! layouts {
    ($( $(#[$doc:meta])* $rust:ident = $c:literal { $( $member:ident : $kind:ty ),* $(,)? } )*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy)]
            #[allow(dead_code)]
            pub(crate) struct $rust { $( pub(crate) $member: $kind ),* }

            impl $rust {
                #[allow(dead_code)]
                pub(crate) const LAYOUT: Layout = Layout {
                    name: $c,
                    size: size_of::<$rust>(),
                    members: &[ $( (
                        stringify!($member),
                        std::mem::offset_of!($rust, $member),
                        size_of::<$kind>(),
                    ) ),* ],
                };
            }
        )*
        /// All of them.
        #[cfg(test)]
        pub(crate) const LAYOUTS: &[&Layout] = &[ $( &$rust::LAYOUT ),* ];
    };
}

layouts! {
    /// What every record begins with.
    Header = "event_header" { time: u64, cpu: u16, kind: u8, pad: [u8; 5] }
    /// A message, before its bytes.
    Message = "event_message" {
        header: Header, connection: u64, position: u64, started: u64, arrived: u64,
        process_started: u64, cgroup: u64, goroutine: u64, tgid: u32, tid: u32, length: u32,
        srtt_us: u32, retransmits: u32, payload_length: u16, tail_length: u8, direction: u8,
        unseen: u32, flags: u8, pad: [u8; 3],
    }
    /// A TCP connection.
    Opened = "event_opened" {
        header: Header, connection: u64, connect_started: u64, process_started: u64, passed: [u64; 2],
        tgid: u32, netns: u32, local_address: [u8; 16], peer_address: [u8; 16], local_port: u16,
        peer_port: u16, family: u8, role: u8, origin: u8, pad: u8,
    }
    /// A unix connection.
    OpenedUnix = "event_opened_unix" {
        header: Header, connection: u64, passed: [u64; 2], netns: u32, role: u8, origin: u8,
        local_length: u8, peer_length: u8, local_path: [u8; 108], peer_path: [u8; 108],
    }
    /// The end of one direction.
    HalfClosed = "event_half_closed" { header: Header, connection: u64, direction: u8, pad: [u8; 7] }
    /// The end of a connection.
    Closed = "event_closed" {
        header: Header, connection: u64, ingress_bytes: u64, egress_bytes: u64, reset: u8, pad: [u8; 7],
    }
    /// A program was executed.
    ProcessStarted = "event_process_started" {
        header: Header, process_started: u64, cgroup: u64, tgid: u32, parent: u32, comm: [u8; 16],
        filename_length: u32, executable_length: u32, filename: [u8; 256], executable: [u8; 256],
    }
    /// The last thread ended.
    ProcessExited = "event_process_exited" { header: Header, process_started: u64, tgid: u32, pad: u32 }
    /// The name of a control group and of those around it.
    Group = "event_group" {
        header: Header, group: u64, levels: u32, cut: u32, names: [u8; 12 * 128],
    }
    /// The kernel side's counters, one per CPU.
    Counters = "counters" {
        seen: u64, outcomes: [u64; 11], lost_control: u64, copy_faults: u64,
        connections_made: u64, connections_ended: u64, processes_made: u64, processes_ended: u64,
        decisions_taken: u64,
    }
    /// Where the number of the current goroutine is.
    GoroutineLayout = "goroutine_layout" { g: i32, goid: u32 }
    /// What is decided about a process.
    ProcessRule = "process_rule" { verdict: u32, seen: u32, goroutines: GoroutineLayout, since: u64 }
    /// A process that nothing is decided about.
    ProcessAsked = "process_asked" { time: u64, process_started: u64, cgroup: u64, tgid: u32, executed: u32 }
    /// What is decided about a connection.
    Decision = "decision" { policy: u32, copy_bytes: u32 }
}

/// `enum event_kind`.
pub(crate) mod kind {
    pub(crate) const MESSAGE: u8 = 1;
    pub(crate) const OPENED: u8 = 2;
    pub(crate) const OPENED_UNIX: u8 = 3;
    pub(crate) const HALF_CLOSED: u8 = 4;
    pub(crate) const CLOSED: u8 = 5;
    pub(crate) const PROCESS_STARTED: u8 = 6;
    pub(crate) const PROCESS_EXITED: u8 = 7;
    pub(crate) const GROUP: u8 = 8;
}

/// `enum message_flag`.
pub(crate) mod message_flag {
    pub(crate) const PART: u8 = 1;
    pub(crate) const HEAD_CUT: u8 = 2;
    pub(crate) const COUNTED: u8 = 4;
}

/// `enum outcome`, in its order; the first is no drop.
pub(crate) const OUTCOMES: [&str; 11] = [
    "submitted",
    "kernel.ring_full",
    "kernel.process_denied",
    "kernel.process_unknown",
    "kernel.port_filtered",
    "kernel.connection_ignored",
    "kernel.rate_limited",
    "kernel.unknown_budget",
    "kernel.self",
    "kernel.state_full",
    "kernel.pid_namespace",
];

/// Most bytes of one message that the kernel side copies (`COPY_MAX`).
pub(crate) const COPY_MAX: u32 = 28 << 10;

#[cfg(test)]
mod tests {
    use libbpf_rs::HasSize as _;
    use libbpf_rs::btf::{Btf, types};

    use super::*;

    #[test]
    fn each_record_is_laid_out_as_in_the_compiled_kernel_side() {
        let object = concat!(env!("OUT_DIR"), "/capture.bpf.o");
        let btf = Btf::from_path(object).unwrap();
        for layout in LAYOUTS {
            let found: types::Struct<'_> = btf
                .type_by_name(layout.name)
                .unwrap_or_else(|| panic!("no struct {} in {object}", layout.name));
            assert_eq!(found.size(), layout.size, "size of {}", layout.name);
            let members: Vec<_> = found
                .iter()
                .map(|member| {
                    let types::MemberAttr::Normal { offset } = member.attr else {
                        panic!("a bit field in {}", layout.name);
                    };
                    let name = member.name.unwrap().to_str().unwrap().to_owned();
                    (name, offset as usize / 8)
                })
                .collect();
            let ours: Vec<_> = layout
                .members
                .iter()
                .map(|(name, offset, _)| ((*name).to_owned(), *offset))
                .collect();
            assert_eq!(ours, members, "members of {}", layout.name);
        }
    }
}
