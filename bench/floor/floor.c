/*
 * The floor: the least that a server can do which writes once for each delivery. One thread, one epoll; an event is
 * encoded once, and every connection gets one write of it. There are no targets, no ids, no history and no queues: where a
 * socket's buffer is full, everybody waits for it.
 *
 * It is commanded as bench/internal/control says, and knows broadcasts only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FD = 1 << 16, MAX_DATA = 1 << 16, EVENTS = 512 };

static const char head[] =
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";

/* open_fds has the connections whose head was written; slot says where each is in it, plus 1. */
static int open_fds[MAX_FD], open_count, slot[MAX_FD];
static int epoll_fd, listen_fd, timer_fd;

/* The publish command that is being carried out. */
static struct {
	long count, done, size, pub;
	double rate;
	long long start; /* ns since 1970 */
} job;

static void die(const char *what) {
	perror(what);
	exit(1);
}

static long long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void watch(int fd, unsigned events) {
	struct epoll_event e = {.events = events, .data.fd = fd};
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0)
		die("epoll_ctl");
}

static void forget(int fd) {
	if (slot[fd]) {
		int last = open_fds[--open_count];
		open_fds[slot[fd] - 1] = last;
		slot[last] = slot[fd];
		slot[fd] = 0;
	}
	close(fd);
}

static void accept_all(void) {
	for (;;) {
		int one = 1, fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		if (fd >= MAX_FD) {
			close(fd);
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		watch(fd, EPOLLIN | EPOLLRDHUP);
	}
}

/* readable answers a request, which on loopback comes in one piece. */
static void readable(int fd) {
	char b[8192];
	ssize_t n = read(fd, b, sizeof b);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		forget(fd);
		return;
	}
	if (slot[fd] || n < 4 || memcmp(b + n - 4, "\r\n\r\n", 4))
		return;
	if (write(fd, head, sizeof head - 1) != sizeof head - 1) {
		forget(fd);
		return;
	}
	open_fds[open_count++] = fd;
	slot[fd] = open_count;
}

/* deliver writes once, and waits where the socket's buffer is full. */
static void deliver(int fd, const char *b, size_t n) {
	while (n > 0) {
		ssize_t w = write(fd, b, n);
		if (w >= 0) {
			b += w;
			n -= (size_t)w;
		} else if (errno == EAGAIN) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};
			if (poll(&p, 1, 5000) == 0) {
				fprintf(stderr, "a client has not read for 5 s\n");
				exit(1);
			}
		} else if (errno != EINTR) {
			return; /* its end is read from the epoll */
		}
	}
}

static void broadcast(long seq, long long intended) {
	static char data[MAX_DATA], frame[MAX_DATA + 256];
	int n = snprintf(data, sizeof data, "{\"s\":%ld,\"p\":%ld,\"c\":0,\"k\":%ld,\"t\":%lld,\"x\":\"", seq, job.pub, seq, intended);
	while (n < job.size - 2 && n < MAX_DATA - 3)
		data[n++] = '.';
	data[n] = 0;
	char event[MAX_DATA + 128];
	int size = snprintf(event, sizeof event, "event: new-message\ndata: %s\"}\nid: %ld\n\n", data, seq);
	int total = snprintf(frame, sizeof frame, "%x\r\n%s\r\n", size, event);
	for (int i = 0; i < open_count; i++)
		deliver(open_fds[i], frame, (size_t)total);
}

/* due returns when the event n of the job is due. */
static long long due(long n) {
	return job.start + (long long)((double)n / job.rate * 1e9);
}

static void arm(long long at) {
	struct itimerspec t = {.it_value = {.tv_sec = at / 1000000000LL, .tv_nsec = at % 1000000000LL}};
	if (timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &t, NULL) < 0)
		die("timerfd_settime");
}

/* work sends what is due, and answers when all is sent. */
static void work(void) {
	while (job.done < job.count) {
		long long t = job.rate > 0 ? due(job.done) : now();
		if (job.rate > 0 && t > now()) {
			arm(t);
			return;
		}
		broadcast(++job.done, t);
	}
	if (job.count > 0) {
		printf("published count=%ld start=%lld end=%lld\n", job.done, job.start, now());
		job.count = 0;
	}
}

static void command(const char *line) {
	char kind[16];
	long publishers, users;
	if (strcmp(line, "settle\n") == 0) {
		puts("settled");
	} else if (sscanf(line, "publish kind=%15s count=%ld rate=%lf size=%ld publishers=%ld users=%ld pub=%ld", kind, &job.count,
			&job.rate, &job.size, &publishers, &users, &job.pub) == 7 && strcmp(kind, "broadcast") == 0 && publishers == 1) {
		job.done = 0;
		job.start = now();
		work();
	} else {
		printf("error the floor can't do %s", line);
	}
}

/* commands reads what has come on the standard input. The benchmark sends one line at a time. */
static void commands(void) {
	static char b[4096];
	static size_t have;
	ssize_t n = read(0, b + have, sizeof b - 1 - have);
	if (n <= 0)
		exit(0);
	have += (size_t)n;
	b[have] = 0;
	if (b[have - 1] == '\n') {
		have = 0;
		command(b);
	}
}

int main(void) {
	struct rlimit limit;
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof at;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (listen_fd < 0 || bind(listen_fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(listen_fd, 4096) < 0 ||
			getsockname(listen_fd, (struct sockaddr *)&at, &len) < 0)
		die("listen");
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	timer_fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
	if (epoll_fd < 0 || timer_fd < 0)
		die("epoll");
	watch(listen_fd, EPOLLIN);
	watch(timer_fd, EPOLLIN);
	watch(0, EPOLLIN);
	printf("ready addr=127.0.0.1:%d version=\n", ntohs(at.sin_port));

	for (;;) {
		struct epoll_event events[EVENTS];
		int n = epoll_wait(epoll_fd, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			unsigned long long expirations;
			if (fd == listen_fd)
				accept_all();
			else if (fd == 0)
				commands();
			else if (fd != timer_fd)
				readable(fd);
			else if (read(timer_fd, &expirations, sizeof expirations) > 0)
				work();
		}
	}
}
