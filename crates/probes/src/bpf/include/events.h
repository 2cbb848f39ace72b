/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What goes through the ring and the maps: the only truth shared by the kernel side and user space. A test compares
 * it, member by member, with what src/abi.rs says.
 */
#pragma once

#define COPY_MAX 28672
#define TAIL_MAX 32
#define PATH_MAX_COPY 256
#define NAME_MAX_COPY 256
#define UNIX_PATH_MAX 108
#define GROUP_LEVELS 12
#define GROUP_NAME 128

enum event_kind {
	EVENT_MESSAGE = 1,
	EVENT_OPENED = 2,
	EVENT_OPENED_UNIX = 3,
	EVENT_HALF_CLOSED = 4,
	EVENT_CLOSED = 5,
	EVENT_PROCESS_STARTED = 6,
	EVENT_PROCESS_EXITED = 7,
	EVENT_GROUP = 8,
};

enum direction { DIRECTION_INGRESS = 0, DIRECTION_EGRESS = 1 };
enum role { ROLE_UNKNOWN = 0, ROLE_CLIENT = 1, ROLE_SERVER = 2 };
enum origin { ORIGIN_OBSERVED = 0, ORIGIN_PRE_EXISTING = 1 };

enum policy {
	POLICY_UNDECIDED = 0,
	POLICY_IGNORE = 1,
	POLICY_HEADERS = 2,
	POLICY_FULL = 3,
	POLICY_FORGOTTEN = 4, /* in a decision only */
};

enum message_flag {
	MESSAGE_PART = 1, /* the rest of the message before it */
	MESSAGE_HEAD_CUT = 2, /* a head goes on behind what was copied */
	MESSAGE_COUNTED = 4, /* the position is a sum of lengths: unseen bytes are missing in it */
};

enum verdict { VERDICT_UNKNOWN = 0, VERDICT_ALLOW = 1, VERDICT_DENY = 2 };
enum port_rule { PORT_INCLUDE = 1, PORT_EXCLUDE = 2 };

/* Where a message that was seen has ended: exactly one of these. */
enum outcome {
	OUTCOME_SUBMITTED = 0,
	OUTCOME_RING_FULL = 1,
	OUTCOME_PROCESS_DENIED = 2,
	OUTCOME_PROCESS_UNKNOWN = 3,
	OUTCOME_PORT_FILTERED = 4,
	OUTCOME_CONNECTION_IGNORED = 5,
	OUTCOME_RATE_LIMITED = 6,
	OUTCOME_UNKNOWN_BUDGET = 7,
	OUTCOME_SELF = 8,
	OUTCOME_STATE_FULL = 9,
	OUTCOME_PID_NAMESPACE = 10,
	OUTCOMES = 11,
};

struct event_header {
	__u64 time;
	__u16 cpu;
	__u8 kind;
	__u8 pad[5];
};

struct event_message {
	struct event_header header;
	__u64 connection;
	__u64 position;
	__u64 started; /* 0: unknown */
	__u64 arrived; /* 0: unknown */
	__u64 process_started;
	__u64 cgroup;
	__u64 goroutine; /* 0: not known, then it is the thread that counts */
	__u32 tgid;
	__u32 tid;
	__u32 length;
	__u32 srtt_us;
	__u32 retransmits;
	__u16 payload_length;
	__u8 tail_length;
	__u8 direction;
	__u32 unseen; /* bytes right before `position` that no program saw */
	__u8 flags; /* enum message_flag */
	__u8 pad[3];
	/* payload_length bytes, then tail_length bytes */
};

struct event_opened {
	struct event_header header;
	__u64 connection;
	__u64 connect_started; /* 0: unknown */
	__u64 process_started;
	__u64 passed[2]; /* bytes in each direction: where its next message begins */
	__u32 tgid; /* 0: unknown */
	__u32 netns;
	__u8 local_address[16];
	__u8 peer_address[16];
	__u16 local_port;
	__u16 peer_port;
	__u8 family; /* AF_INET: the first four bytes of an address */
	__u8 role;
	__u8 origin;
	__u8 pad;
};

struct event_opened_unix {
	struct event_header header;
	__u64 connection;
	__u64 passed[2];
	__u32 netns;
	__u8 role;
	__u8 origin;
	__u8 local_length; /* of the path; abstract names begin with a zero byte */
	__u8 peer_length;
	__u8 local_path[UNIX_PATH_MAX];
	__u8 peer_path[UNIX_PATH_MAX];
};

struct event_half_closed {
	struct event_header header;
	__u64 connection;
	__u8 direction;
	__u8 pad[7];
};

struct event_closed {
	struct event_header header;
	__u64 connection;
	__u64 ingress_bytes;
	__u64 egress_bytes;
	__u8 reset;
	__u8 pad[7];
};

struct event_process_started {
	struct event_header header;
	__u64 process_started;
	__u64 cgroup;
	__u32 tgid;
	__u32 parent;
	__u8 comm[16];
	__u32 filename_length; /* both without the final zero */
	__u32 executable_length;
	__u8 filename[PATH_MAX_COPY];
	__u8 executable[NAME_MAX_COPY];
};

struct event_process_exited {
	struct event_header header;
	__u64 process_started;
	__u32 tgid;
	__u32 pad;
};

/* Where a control group is. */
struct event_group {
	struct event_header header;
	__u64 group;
	__u32 levels; /* how many names there are, the innermost first; the root has none */
	__u32 cut; /* more groups are around these, or a name is longer */
	__u8 names[GROUP_LEVELS * GROUP_NAME];
};

/* Value of the map `counters`, one per CPU. */
struct counters {
	__u64 seen;
	__u64 outcomes[OUTCOMES];
	__u64 lost_control; /* events other than messages that are lost */
	__u64 copy_faults; /* messages whose bytes could not be read */
	/* What went into tables and was taken out; what is missing in them beyond that, they have forgotten. */
	__u64 connections_made;
	__u64 connections_ended;
	__u64 processes_made;
	__u64 processes_ended;
	__u64 decisions_taken;
};

/* Where the number of the current goroutine is. */
struct goroutine_layout {
	__s32 g; /* of the pointer to `g`, from the thread pointer (x86-64) */
	__u32 goid; /* in `g`; 0: not a Go program, or not examined */
};

/* Value of the map `processes`, by tgid. */
struct process_rule {
	__u32 verdict;
	__u32 seen; /* messages while unknown, since the time below */
	struct goroutine_layout goroutines;
	__u64 since;
};

/* Value of the queue `asked`. */
struct process_asked {
	__u64 time;
	__u64 process_started;
	__u64 cgroup;
	__u32 tgid;
	__u32 executed; /* a program, at that time */
};

/* Value of the map `decisions`, by connection: taken by the connection's next message. */
struct decision {
	__u32 policy;
	__u32 copy_bytes;
};
