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

/// How the heads of text protocols look: lines up to an empty one. The kernel side follows them, so that it copies a long
/// head to its end and finds a head that comes after a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadRule {
    /// The first four bytes of each head, at most [`SIGNS`](Self::SIGNS).
    pub signs: Vec<[u8; 4]>,
    /// Name of the line with the length of what follows the head, with its colon; in ASCII, at most 16 bytes.
    pub length_label: &'static str,
}

impl HeadRule {
    /// Most signs.
    pub const SIGNS: usize = 32;

    /// The label in two words: its bytes in lower case, which bytes it has, and which of them are letters.
    pub(crate) fn label(&self) -> [[u64; 2]; 3] {
        let mut words = [[0; 16]; 3];
        for (index, byte) in self.length_label.bytes().take(16).enumerate() {
            words[0][index] = byte.to_ascii_lowercase();
            words[1][index] = 0xff;
            words[2][index] = if byte.is_ascii_alphabetic() { 0x20 } else { 0 };
        }
        words.map(|bytes| {
            let (first, second) = bytes.split_at(8);
            [first, second].map(|half| half.try_into().map_or(0, u64::from_ne_bytes))
        })
    }
}

/// Settings of one capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSettings {
    /// Which backend.
    pub backend: BackendChoice,
    /// Size of the ring: raised to the next power of two, at least one page.
    pub ring_buffer_bytes: u32,
    /// Bytes copied of each message once the protocol is known; a head is copied to its end.
    pub copy_bytes: u32,
    /// Up to where a head is copied, counted from its start.
    pub head_bytes: u32,
    /// Which heads there are.
    pub heads: HeadRule,
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
    /// Messages of a process that are captured each second while nothing is decided about it.
    pub unknown_messages: u32,
    /// Connections that backend `syscall` knows at a time; the others keep what they know with the socket.
    pub connections: u32,
    /// Announce connections that exist before the start.
    pub existing_connections: bool,
}

impl Default for CaptureSettings {
    fn default() -> Self {
        Self {
            backend: BackendChoice::Auto,
            ring_buffer_bytes: 8 << 20,
            copy_bytes: 1024,
            head_bytes: 16 << 10,
            heads: HeadRule::default(),
            unix_sockets: false,
            cgroup_messages_per_second: 50_000,
            ports_include: Vec::new(),
            ports_exclude: Vec::new(),
            capture_unknown: true,
            unknown_messages: 4096,
            connections: 32_768,
            existing_connections: true,
        }
    }
}

impl CaptureSettings {
    /// Most bytes that are copied of one message, which bounds both settings: what one CPU's value of a map can hold.
    pub const COPY_MAX: u32 = crate::abi::COPY_MAX;

    /// The ring's size as the kernel wants it.
    pub(crate) fn ring_bytes(&self) -> u32 {
        self.ring_buffer_bytes
            .clamp(4096, 1 << 30)
            .next_power_of_two()
    }
}
