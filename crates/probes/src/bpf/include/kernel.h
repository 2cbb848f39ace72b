/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The few kernel types that are used, each with only the members that are used: libbpf finds their places in the
 * running kernel's BTF (CO-RE). No dump of one kernel's types, so no kernel is needed to build.
 */
#pragma once

/* Tells bpf_tracing.h to use the kernel's register names (di, not rdi). */
#define __VMLINUX_H__

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef __u16 __sum16;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_QUEUE = 22,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum { BPF_ANY = 0, BPF_NOEXIST = 1, BPF_EXIST = 2 };
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_SK_STORAGE_GET_F_CREATE = 1, BPF_LOCAL_STORAGE_GET_F_CREATE = 1 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_RB_AVAIL_DATA = 0 };
enum iter_type { ITER_IOVEC, ITER_UBUF };

struct bpf_dynptr {
	__u64 opaque[2];
} __attribute__((aligned(8)));

/* Complete, or libbpf takes a function with a pointer to it for another one. */
struct __sk_buff {
	__u32 len;
};

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262
#define SOCK_STREAM 1
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define ENOSYS 38
#define MSG_OOB 0x1
#define MSG_PEEK 0x2
#define MSG_TRUNC 0x20
#define MSG_ERRQUEUE 0x2000
#define PF_IO_WORKER 0x00000010
#define PF_KTHREAD 0x00200000
#define TCP_FLAG_SYN 0x02

enum sock_flags { SOCK_DEAD = 0, SOCK_DONE = 1 };

enum tcp_state {
	STATE_ESTABLISHED = 1,
	STATE_SYN_SENT = 2,
	STATE_SYN_RECV = 3,
	STATE_FIN_WAIT1 = 4,
	STATE_FIN_WAIT2 = 5,
	STATE_TIME_WAIT = 6,
	STATE_CLOSE = 7,
	STATE_CLOSE_WAIT = 8,
	STATE_LAST_ACK = 9,
	STATE_LISTEN = 10,
	STATE_CLOSING = 11,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r10, r9, r8, ax, dx, si, di, orig_ax, cs;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp, pc, pstate;
};
struct pt_regs {
	__u64 regs[31];
	__u64 sp, pc, pstate;
	__u64 orig_x0;
	__s32 syscallno;
};
#else
#error "only x86-64 and arm64 are known"
#endif

struct list_head {
	struct list_head *next;
};

struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[0];
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

typedef struct {
	__s64 counter;
} atomic64_t;

struct sk_buff_head {
	struct sk_buff *next;
	__u32 qlen;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned long skc_flags;
	possible_net_t skc_net;
	atomic64_t skc_cookie;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct file;
struct socket;

struct sock {
	struct sock_common __sk_common;
	__u8 sk_shutdown;
	__u16 sk_type;
	__u16 sk_protocol;
	int sk_err;
	int sk_rcvlowat;
	struct sk_buff_head sk_receive_queue;
	void *sk_user_data;
	struct socket *sk_socket;
	struct pid *sk_peer_pid;
};

struct inet_connection_sock {
	void *icsk_ulp_ops;
};

struct tcp_sock {
	__u32 srtt_us;
	__u32 total_retrans;
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u32 snd_una;
	__u32 write_seq;
	__u64 bytes_acked;
	__u64 bytes_received;
	__u64 tcp_clock_cache;
	bool is_mptcp;
};

struct mptcp_sock {
	__u64 write_seq;
	__u64 bytes_received;
	__u64 bytes_consumed;
	struct sock *first; /* subflow */
};

struct sockaddr_un {
	unsigned short sun_family;
	char sun_path[108];
};

struct unix_address {
	int len;
	struct sockaddr_un name[0];
};

#define SEND_SHUTDOWN 2
#define SHUTDOWN_MASK 3

struct unix_sock {
	struct unix_address *addr;
	struct sock *peer;
};

struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
};

struct socket {
	short type;
	struct file *file;
	struct sock *sk;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
};

struct kernfs_node {
	__u64 id;
	const char *name;
	struct kernfs_node *__parent;
};

/* Before kernel 6.15. */
struct kernfs_node___old {
	struct kernfs_node *parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup *dfl_cgrp;
	struct cgroup_subsys_state *subsys[1]; /* one for each controller */
};

#if defined(__TARGET_ARCH_x86)
struct thread_struct {
	unsigned long fsbase;
};
#endif

struct task_struct {
	void *stack;
	unsigned int flags;
	int pid;
	int tgid;
	__u64 start_boottime;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct pid *thread_pid;
	struct files_struct *files;
	struct signal_struct *signal;
	struct io_uring_task *io_uring;
	struct css_set *cgroups;
	char comm[16];
#if defined(__TARGET_ARCH_x86)
	struct thread_struct thread;
#endif
};

struct linux_binprm {
	struct file *file;
	const char *filename;
};

struct io_kiocb {
	struct file *file;
	__u8 opcode;
	__u32 flags;
};

/* What the first bytes of a request are for sends, and for writes. */
struct io_sr_msg {
	void *buf;
};

struct io_rw {
	__u64 addr;
	__u32 len;
};

struct iovec;

struct iov_iter {
	__u8 iter_type;
	unsigned long iov_offset;
	unsigned long count;
	union {
		const struct iovec *__iov;
		void *ubuf;
	};
	unsigned long nr_segs;
};

/* Before kernel 6.4. */
struct iov_iter___old {
	const struct iovec *iov;
};

struct msghdr {
	struct iov_iter msg_iter;
};

struct page {
	unsigned long flags;
};

struct sk_buff {
	struct sk_buff *next;
	struct sock *sk;
	char cb[48];
	unsigned int len;
	unsigned int data_len;
	unsigned int end;
	unsigned char *head;
	unsigned char *data;
};

/* Its members have other names in other kernels, in the same places (struct fragment). */
struct skb_frag {
	unsigned int len;
};

struct skb_shared_info {
	__u8 nr_frags;
	struct skb_frag frags[17];
};

struct tcp_skb_cb {
	__u32 seq;
	__u8 tcp_flags;
};

struct unix_skb_parms {
	__u32 consumed;
};

struct bpf_iter_meta {
	__u64 session_id;
};

#pragma clang attribute pop

/* The context of iter/tcp: its layout is part of the kernel's interface. */
struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
	unsigned int uid;
};

/* What user space hands to the kernel: fixed by the system-call interface. */
struct user_iovec {
	__u64 base;
	__u64 length;
};

struct user_msghdr {
	__u64 name;
	__u32 name_length, pad;
	__u64 iov;
	__u64 iov_count;
	__u64 control;
	__u64 control_length;
	__u32 flags, pad2;
};

/* The two members of it that are wanted, which follow each other: less stack. */
struct user_vector {
	__u64 iov;
	__u64 iov_count;
};

struct user_mmsghdr {
	struct user_msghdr header;
	__u32 length, pad;
};
