//! What the caller wants of the capture.

/// Which hook sees messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// The best that this kernel takes.
    #[default]
    Auto,
    /// The tracepoints `sock_send_length` and `sock_recv_length` (kernel 6.3).
    Socket,
    /// `fentry` and `fexit` of `tcp_sendmsg` and `tcp_recvmsg`.
    Fexit,
    /// The end of every system call (kernel 5.12).
    Syscall,
}

/// Settings of one capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSettings {
    /// Which backend.
    pub backend: BackendChoice,
    /// Size of the ring: raised to the next power of two, at least one page.
    pub ring_buffer_bytes: u32,
    /// Bytes copied of each message once the protocol is known.
    pub copy_bytes: u32,
    /// Also `AF_UNIX` stream sockets.
    pub unix_sockets: bool,
    /// Messages per second and container while the ring is more than a quarter full; 0: no limit.
    pub cgroup_messages_per_second: u64,
    /// Only connections with one of these ports at either end; empty: all.
    pub ports_include: Vec<u16>,
    /// No connections with one of these ports at either end.
    pub ports_exclude: Vec<u16>,
    /// Capture processes until something is decided about them.
    pub capture_unknown: bool,
    /// Messages of a process that are captured while nothing is decided about it.
    pub unknown_messages: u32,
    /// Announce connections that exist before the start.
    pub existing_connections: bool,
}

impl Default for CaptureSettings {
    fn default() -> Self {
        Self {
            backend: BackendChoice::Auto,
            ring_buffer_bytes: 8 << 20,
            copy_bytes: 1024,
            unix_sockets: false,
            cgroup_messages_per_second: 50_000,
            ports_include: Vec::new(),
            ports_exclude: Vec::new(),
            capture_unknown: true,
            unknown_messages: 4096,
            existing_connections: true,
        }
    }
}

impl CaptureSettings {
    /// The ring's size as the kernel wants it.
    pub(crate) fn ring_bytes(&self) -> u32 {
        self.ring_buffer_bytes
            .clamp(4096, 1 << 30)
            .next_power_of_two()
    }
}
