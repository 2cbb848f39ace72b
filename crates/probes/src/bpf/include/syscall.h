/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* System calls of sockets: their numbers, and where their arguments are in the saved registers. */
#pragma once

enum call {
	CALL_OTHER,
	CALL_READ,
	CALL_WRITE,
	CALL_READV,
	CALL_WRITEV,
	CALL_RECVFROM,
	CALL_SENDTO,
	CALL_RECVMSG,
	CALL_SENDMSG,
	CALL_RECVMMSG,
	CALL_SENDMMSG,
	CALL_SENDFILE,
	CALL_SPLICE,
};

#if defined(__TARGET_ARCH_x86)
#define CALL_NUMBER(regs) ((regs)->orig_ax)
/* splice, getsockopt */
#define IS_UNSEEN_READ(number) ((number) == 275 || (number) == 55)
#define ARGUMENT_1(regs) ((regs)->di)
#define ARGUMENT_2(regs) ((regs)->si)
#define ARGUMENT_3(regs) ((regs)->dx)
#define ARGUMENT_4(regs) ((regs)->r10)
#define ARGUMENT_5(regs) ((regs)->r8)
/* The segment of 32-bit programs, whose calls have other numbers. */
#define IS_COMPAT(regs) ((regs)->cs == 0x23)
/* Between the entry of a call and its result: afterwards a thread may do other work with the call's registers. */
#define IN_CALL(regs) ((regs)->ax == (unsigned long)-ENOSYS)

static __always_inline __u32 classify(__u64 number)
{
	switch (number) {
	case 0:
		return CALL_READ;
	case 1:
		return CALL_WRITE;
	case 19:
	case 327:
		return CALL_READV;
	case 20:
	case 328:
		return CALL_WRITEV;
	case 40:
		return CALL_SENDFILE;
	case 44:
		return CALL_SENDTO;
	case 45:
		return CALL_RECVFROM;
	case 46:
		return CALL_SENDMSG;
	case 47:
		return CALL_RECVMSG;
	case 275:
		return CALL_SPLICE;
	case 299:
		return CALL_RECVMMSG;
	case 307:
		return CALL_SENDMMSG;
	}
	return CALL_OTHER;
}
#else
#define CALL_NUMBER(regs) ((regs)->syscallno)
#define IS_UNSEEN_READ(number) ((number) == 76 || (number) == 209)
#define ARGUMENT_1(regs) ((regs)->orig_x0)
#define ARGUMENT_2(regs) ((regs)->regs[1])
#define ARGUMENT_3(regs) ((regs)->regs[2])
#define ARGUMENT_4(regs) ((regs)->regs[3])
#define ARGUMENT_5(regs) ((regs)->regs[4])
#define IS_COMPAT(regs) ((regs)->pstate & 0x10)
/* Not told apart where the result is the number of the descriptor. */
#define IN_CALL(regs) ((regs)->regs[0] == (regs)->orig_x0)

static __always_inline __u32 classify(__u64 number)
{
	switch (number) {
	case 63:
		return CALL_READ;
	case 64:
		return CALL_WRITE;
	case 65:
	case 286:
		return CALL_READV;
	case 66:
	case 287:
		return CALL_WRITEV;
	case 71:
		return CALL_SENDFILE;
	case 76:
		return CALL_SPLICE;
	case 206:
		return CALL_SENDTO;
	case 207:
		return CALL_RECVFROM;
	case 211:
		return CALL_SENDMSG;
	case 212:
		return CALL_RECVMSG;
	case 243:
		return CALL_RECVMMSG;
	case 269:
		return CALL_SENDMMSG;
	}
	return CALL_OTHER;
}
#endif

/* Calls after which a socket is the end of a new Unix stream. */
enum opening { OPENING_NONE, OPENING_CONNECT, OPENING_ACCEPT, OPENING_PAIR };

static __always_inline enum opening classify_opening(__u64 number)
{
#if defined(__TARGET_ARCH_x86)
	if (number == 42)
		return OPENING_CONNECT;
	if (number == 43 || number == 288)
		return OPENING_ACCEPT;
	return number == 53 ? OPENING_PAIR : OPENING_NONE;
#else
	if (number == 203)
		return OPENING_CONNECT;
	if (number == 202 || number == 242)
		return OPENING_ACCEPT;
	return number == 199 ? OPENING_PAIR : OPENING_NONE;
#endif
}

/* The bytes of recvmsg and sendmsg. */
static __always_inline void source_of_header(struct source *source, __u64 address)
{
	struct user_vector header;

	address += __builtin_offsetof(struct user_msghdr, iov);
	if (bpf_probe_read_user(&header, sizeof(header), (void *)address))
		return;
	source->kind = SOURCE_VECTOR;
	source->address = header.iov;
	source->count = header.iov_count > VECTOR_MAX ? VECTOR_MAX : header.iov_count;
}

/* The bytes of a call that went in this direction; none where the call does not tell. */
static __always_inline void source_of_call(struct source *source, __u32 call, __u8 direction, __u64 second, __u64 third)
{
	bool sent = direction == DIRECTION_EGRESS;

	if (call == (sent ? CALL_WRITE : CALL_READ) || call == (sent ? CALL_SENDTO : CALL_RECVFROM)) {
		source->kind = SOURCE_BUFFER;
		source->address = second;
	} else if (call == (sent ? CALL_WRITEV : CALL_READV)) {
		source->kind = SOURCE_VECTOR;
		source->address = second;
		source->count = third > VECTOR_MAX ? VECTOR_MAX : third;
	} else if (call == (sent ? CALL_SENDMSG : CALL_RECVMSG)) {
		source_of_header(source, second);
	} else if (call == (sent ? CALL_SENDMMSG : CALL_RECVMMSG) && third == 1) {
		source_of_header(source, second);
	}
}
