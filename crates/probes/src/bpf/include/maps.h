/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Settings and maps. Every map is bounded. */
#pragma once

const volatile __u32 self_tgid;
const volatile bool use_storage; /* connection state lives on the socket; otherwise in a table by its address */
const volatile bool can_cast; /* the kernel has bpf_rdonly_cast */
const volatile __u32 registers_offset; /* of a program's saved registers in its task's stack; 0: unknown */
/* The kernel's variables page_offset_base and vmemmap_base; 0: not known (packet.h). */
const volatile __u64 page_offset_at;
const volatile __u64 vmemmap_at;
const volatile bool capture_unknown = true;
const volatile bool unix_sockets;
const volatile bool any_ports;
const volatile bool only_included_ports;
const volatile bool close_at_destroy; /* tcp_destroy_sock is attached, after which nothing more can be read */
const volatile __u32 recv_arguments = 5; /* of tcp_recvmsg */
const volatile __u32 copy_bytes = 1024;
const volatile __u32 unknown_budget = 4096; /* messages a second of a process that is not decided about */
const volatile __u64 wake_bytes = 65536; /* a power of two */
const volatile __u64 ring_bytes = 8 << 20;
const volatile __u64 rate_per_second;
const volatile __u64 rate_burst;

/* What is known of the heads of one direction (heads.h). */
#define LINE_MAX 32 /* of the line with a length, as much as is kept where it comes in several messages */

struct follow {
	__u64 next; /* position of the next head, or at which one goes on; 0: unknown */
	__u64 body; /* bytes behind the head that goes on; how the message began that was not searched */
	__u32 head; /* bytes of the head that goes on; 0: none does */
	__u8 carry;
	__u8 in_pieces; /* heads come apart from their bodies, or in several messages */
	__u16 unsearched; /* bytes of the message before `next`, in which a head may go on; 0: there is none */
	__u8 line[LINE_MAX]; /* the line that goes on, with CARRY_TEXT */
	__u32 line_length;
	__u32 pad;
};

/* A send that has begun. */
struct send {
	__u64 started; /* 0: none */
	__u32 tid;
	__u32 first; /* number of its first byte */
	__u32 number; /* the same, of the last send of the thread, of which one may have ended unseen */
	__u32 left; /* bytes it still had then */
};

#define SENDS 2 /* at once on one socket; of more threads the start is unknown */

/* The ids of the connections that one socket is after another; the lower bits are the socket's. */
#define NEXT_OF_SOCKET (1ULL << 56)

struct connection {
	__u64 id;
	__u64 sk; /* its socket's address, for functions that may not be given the socket */
	__u64 position[2]; /* of what comes next */
	__u64 passed[2]; /* bytes, when this end sent its FIN or the state was closed */
	__u64 gap_from[2];
	__u32 gap_length[2]; /* the last bytes that nobody saw */
	__u32 start[2]; /* the kernel's number of the byte at position 0 */
	struct send sends[SENDS];
	__u64 arrived;
	__u64 connect_started;
	__u64 connect_process_started;
	__u64 judged; /* by judge_process() */
	struct follow follow[2];
	__u64 group; /* of the last message, once it is told */
	__u64 inode; /* of the socket, where that tells it from a later one at its address; 0: not known yet */
	__u32 connect_tgid;
	__u32 epoch;
	__u32 run_bytes;
	__u32 policy;
	__u32 policy_bytes;
	__u32 tokens; /* taken from the container's bucket and not used */
	__u8 run_direction;
	__u8 announced;
	__u8 role;
	__u8 origin;
	__u8 arrival_unknown; /* bytes were left unread when a message was read */
	__u8 unread_before; /* the same, one message before */
	__u8 ignored; /* an outcome, 0: not ignored */
	__u8 reset;
	__u8 established;
	__u8 own_asked; /* how often whether the agent is at the other end */
	__u8 anchored; /* `start` is known, a bit for each direction */
	__u8 counted; /* positions are sums of lengths */
	__u8 fin_sent;
	__u8 over; /* nothing comes any more, but not all that passed has been read and told */
	__u8 ended; /* its close was told */
	__u8 ports_unknown; /* they have not been held against the rules */
	__u8 grants; /* of tokens, until they are as large as can be */
	__u8 unix_ends; /* what was told of the ends of a Unix stream */
};

struct tuple {
	__u8 local_address[16];
	__u8 peer_address[16];
	__u16 local_port;
	__u16 peer_port;
};

struct bucket {
	__u64 tokens;
	__u64 filled;
};

struct listener {
	__u32 netns;
	__u32 port;
};

#define WINDOW 16 /* segments that are read at once */
#define STEP_MAX 3072 /* bytes that are read at once */

/* A cursor over a message's bytes in the program's memory (reader.h). */
struct reader {
	__u64 vector; /* segments that are not in the window yet */
	__u64 base; /* the next byte */
	__u32 segments;
	__u32 left; /* of the current segment */
	__u32 at; /* position of the next byte in the message */
	__u32 until;
	__u32 skip;
	__u32 filled; /* bytes in `data` */
	__u32 failed;
	__u32 last_count; /* bytes at `last` */
	__u64 last; /* of the message's end, where it is kept beside the rest */
	__u32 passed_over; /* bytes of the next segment that are no part of the message */
	__u8 kernel_segments; /* the kernel's memory, and not the program's */
	__u8 kernel_bytes;
	__u8 pad[2];
	__u16 next; /* segment of the window */
	__u16 loaded; /* segments in the window */
	struct user_iovec window[WINDOW];
};

/* Of the head that is looked at (heads.h): places are those in `data`. */
struct scan {
	__u64 body; /* bytes behind the head */
	__u32 at;
	__u32 line; /* start of the current line */
	__u32 start;
	__u32 before; /* bytes of it in earlier messages */
	__u32 end; /* 0: not found */
	__u32 carry;
	__u64 value; /* of the line with the length, as far as it is read */
	__u32 digits;
	__u32 place;
	__u32 line_length; /* what earlier messages brought of the current line; more than LINE_MAX: not all of that is kept */
	__u32 in_line; /* the number is read in `joined` */
	__u8 joined[2 * LINE_MAX];
};

/*
 * One message under construction. The most that one value of a map on each CPU may have is 32 KiB. Behind the copy there is
 * room for one more step, so that the verifier sees each offset in bounds.
 */
struct scratch {
	struct event_message message;
	__u8 data[COPY_MAX + STEP_MAX];
	struct reader reader;
	struct scan scan;
	__u64 submitted; /* bytes of all messages */
	__u32 length; /* of the whole message, also where it is split */
	__u32 limit; /* of the connection's policy, for each message */
	__u32 follow_short; /* heads in messages that are copied whole, too */
};

/*
 * Which scratch a program uses: its own among the programs of its backend, for one of them may interrupt another.
 * User space makes only as many as the backend has.
 */
enum program_slot {
	SLOT_SYSCALL = 0,
	SLOT_SEND = 0,
	SLOT_RECV,
	SLOT_SEND_PAGE,
	SLOT_SPLICE,
	SLOT_UNIX_SEND,
	SLOT_UNIX_RECV,
	/* Of backend `syscall`. */
	SLOT_URING_SEND = 1,
	SLOT_URING_RECV,
	/* Of backend `socket`. */
	SLOT_READ_UNSEEN = 2,
	SLOTS = SLOT_UNIX_RECV + 1
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} sockets SEC(".maps");

/* Too many: the longest idle is forgotten. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, struct connection);
} connections SEC(".maps");

/* A Unix stream's beginning. */
struct birth {
	__u64 peer; /* the other end's address */
	__u64 role;
};

/*
 * Of Unix streams whose beginning was seen, by the socket's address, until the first message. Once there is an entry, each
 * later socket at its address began after it. What is forgotten here counts as older than the agent.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct birth);
} births SEC(".maps");

/* Bytes sent on a Unix stream whose beginning was seen, by the reading socket's address. What is forgotten is not compared. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u64);
} unix_sent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct process_rule);
} processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536); /* as many connections as user space tracks */
	__type(key, __u64);
	__type(value, struct decision);
} decisions SEC(".maps");

/* Raised by user space with each decision, so that a message without news costs no search in `decisions`, `processes`. */
enum epoch { EPOCH_CONNECTIONS, EPOCH_PROCESSES, EPOCHS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, EPOCHS);
	__type(key, __u32);
	__type(value, __u32);
} epoch SEC(".maps");

/* The same for what the kernel side forgets: processes that execute another program or exit. */
__u32 processes_forgotten;

/* What is selected of each port; one entry where no port is. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u8);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct bucket);
} buckets SEC(".maps");

/* Messages lost under overload, by cgroup: the least recent is forgotten where there are too many. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} cgroup_losses SEC(".maps");

/*
 * Events that are no messages and that the ring had no room for: user space takes them from here once it has emptied the
 * ring. What this has no room for either, the oldest, is lost and counted.
 */
union control_event {
	struct event_header header;
	struct event_half_closed half_closed;
	struct event_closed closed;
	struct event_process_exited process_exited;
};

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 16384);
	__type(value, union control_event);
} kept SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1024);
	__type(value, struct event_process_started);
} kept_starts SEC(".maps");

/* How many were put there, so that user space looks only when there is something. */
__u64 kept_events;
__u64 kept_process_starts;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct listener);
	__type(value, __u8);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} last_id SEC(".maps");

static __always_inline struct counters *own_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

/* Adds one to a member of `struct counters`. */
#define COUNT(member)                                            \
	do {                                                     \
		struct counters *own__ = own_counters();         \
		if (own__)                                       \
			__sync_fetch_and_add(&own__->member, 1); \
	} while (0)

/* For what is counted as a message of its own. */
static __always_inline void count_message(__u32 outcome)
{
	struct counters *own = own_counters();

	if (!own)
		return;
	__sync_fetch_and_add(&own->seen, 1);
	if (outcome < OUTCOMES)
		__sync_fetch_and_add(&own->outcomes[outcome], 1);
}

/*
 * A wake-up is an interrupt to this CPU, and dear in a virtual machine: one for each multiple of `wake_bytes`, not one
 * for each event while the reader is behind. The reader's timer fetches what a missed multiple would have woken it for.
 */
static __always_inline __u64 wake_flag(__u64 before, __u64 size)
{
	return (before ^ (before + size + 8)) & -wake_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* The same for an event that stands in the ring already, and so among what waits. */
static __always_inline __u64 wake_flag_in_ring(__u64 size)
{
	return wake_flag(bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) - size - 8, size);
}

static __always_inline void begin(struct event_header *header, __u8 kind)
{
	header->time = bpf_ktime_get_ns();
	header->cpu = bpf_get_smp_processor_id();
	header->kind = kind;
}

static __always_inline void submit_or_keep(void *event, __u64 size, void *queue, __u64 *put)
{
	__u64 waiting = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	struct counters *own = own_counters();

	if (!bpf_ringbuf_output(&events, event, size, wake_flag(waiting, size)))
		return;
	if (bpf_map_push_elem(queue, event, BPF_ANY)) {
		if (own)
			__sync_fetch_and_add(&own->lost_control, 1);
		bpf_map_push_elem(queue, event, BPF_EXIST);
	}
	/* After the event, so that whoever reads this finds it. */
	__sync_fetch_and_add(put, 1);
}

/* An event that is no message; what the ring has no room for is kept. */
static __always_inline void submit_control(union control_event *event, __u64 size)
{
	submit_or_keep(event, size, &kept, &kept_events);
}

static __always_inline void submit_started(struct event_process_started *event)
{
	submit_or_keep(event, sizeof(*event), &kept_starts, &kept_process_starts);
}
