/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Which goroutine of a Go program makes the current system call; costs other programs one comparison. */
#pragma once

#if defined(__TARGET_ARCH_arm64)
enum bpf_func_id___taken { BPF_FUNC_task_pt_regs___taken = 175 };
#endif

/*
 * The runtime's `g` of the current thread: in thread-local storage on x86-64, in a register of its own on arm64, where
 * it stays during a system call.
 */
static __always_inline __u64 current_g(struct task_struct *task, const struct goroutine_layout *layout)
{
	__u64 g = 0;

#if defined(__TARGET_ARCH_x86)
	if (bpf_probe_read_user(&g, sizeof(g), (void *)(task->thread.fsbase + (__s64)layout->g)))
		return 0;
#else
	struct pt_regs *regs;

	if (!bpf_core_enum_value_exists(enum bpf_func_id___taken, BPF_FUNC_task_pt_regs___taken))
		return 0;
	regs = (struct pt_regs *)bpf_task_pt_regs((void *)task);
	g = regs->regs[28];
#endif
	return g;
}

/* 0: no goroutine, or not known; the runtime's own work on a thread (`g0`) has the number 0 as well. */
static __always_inline __u64 current_goroutine(struct task_struct *task, const struct goroutine_layout *layout)
{
	__u64 g, id = 0;

	/* A worker of io_uring is a thread of the process without its thread-local storage. */
	if (!layout->goid || task->flags & (PF_KTHREAD | PF_IO_WORKER))
		return 0;
	g = current_g(task, layout);
	if (!g || bpf_probe_read_user(&id, sizeof(id), (void *)(g + layout->goid)))
		return 0;
	return id;
}
