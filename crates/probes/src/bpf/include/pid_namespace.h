/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Numbers of processes as the agent's /proc shows them: those of the initial pid namespace, which cost nothing, or those of
 * the namespace that a sidecar lives in. There, processes outside of it have no number and are none of the agent's.
 */
#pragma once

/* Below the initial namespace, which has level 0 and needs no translation. */
const volatile __u32 pid_namespace; /* inode number of the agent's; 0: the initial one */
const volatile __u32 pid_level;

/*
 * The place of a process' number at a level: an index into the last member, whose length differs between kernels. With `pid`
 * from a probe read, as the verifier of older kernels lets nobody calculate with a pointer that it knows.
 */
static __always_inline struct upid *number_at(struct pid *pid, __u32 level)
{
	return (void *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
}

/* The number of a thread in the agent's namespace, 0 if it has none there. */
static __always_inline __u32 translated(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	struct upid *number;

	if (!pid || BPF_CORE_READ(pid, level) < pid_level)
		return 0;
	number = number_at(pid, pid_level);
	if (BPF_CORE_READ(number, ns, ns.inum) != pid_namespace)
		return 0;
	return BPF_CORE_READ(number, nr);
}

static __always_inline __u32 tid_of(struct task_struct *task)
{
	return pid_namespace ? translated(task) : task->pid;
}

/* 0, or `is_outside`, for a process that the agent's /proc does not show. */
static __always_inline __u32 tgid_of(struct task_struct *task)
{
	return pid_namespace ? translated(task->group_leader) : task->tgid;
}

static __always_inline bool is_outside(__u32 tgid)
{
	return pid_namespace && !tgid;
}
