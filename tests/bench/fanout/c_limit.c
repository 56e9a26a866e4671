/*
 * c_limit - the physical limit: a C server that does nothing but send() the same bytes to every
 * connected socket of a topic. It speaks just enough HTTP for loadclient and the control protocol
 * of control.py. No slow-client policy beyond waiting up to 2 s for room.
 *
 * Usage: c_limit --port P --control /path.sock [--batch B]
 *   --batch B joins B events into one send() (rate 0 only): the limit for coalesced bursts.
 * Topics: the digits at the end of the path select the topic ("/events/t" is topic 0, ".../t5" is 6).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_TOPICS 20002
#define MAX_FDS 65536
static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                           "Cache-Control: no-store\r\nConnection: close\r\n\r\n";

struct topic {
    int *fds, n, cap;
};
static struct topic topics[MAX_TOPICS];
static int topic_of[MAX_FDS]; /* topic + 1, 0: not subscribed */
static int pos_of[MAX_FDS];
static int ep, batch = 1;

static int64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static int topic_index(const char *s, int len) {
    int end = len, v = 0, mul = 1;
    while (end && s[end - 1] >= '0' && s[end - 1] <= '9') {
        v += (s[--end] - '0') * mul;
        mul *= 10;
    }
    v = end == len ? 0 : v + 1;
    return v < MAX_TOPICS ? v : 0;
}

static void subscribe(int fd, int t) {
    struct topic *p = &topics[t];
    if (p->n == p->cap) p->fds = realloc(p->fds, sizeof(int) * (size_t)(p->cap = p->cap ? p->cap * 2 : 4));
    topic_of[fd] = t + 1;
    pos_of[fd] = p->n;
    p->fds[p->n++] = fd;
}

static void leave(int fd) {
    if (topic_of[fd]) {
        struct topic *p = &topics[topic_of[fd] - 1];
        int last = p->fds[--p->n];
        p->fds[pos_of[fd]] = last;
        pos_of[last] = pos_of[fd];
        topic_of[fd] = 0;
    }
    epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL);
    close(fd);
}

static void send_all(struct topic *p, const char *buf, size_t len) {
    for (int i = 0; i < p->n; i++) {
        size_t off = 0;
        while (off < len) {
            ssize_t r = send(p->fds[i], buf + off, len - off, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (r >= 0) {
                off += (size_t)r;
                continue;
            }
            struct pollfd pf = {.fd = p->fds[i], .events = POLLOUT};
            if (errno != EAGAIN || poll(&pf, 1, 2000) <= 0) break;
        }
    }
}

/* A frame whose JSON has `size` bytes, or as many as it needs. */
static int make_frame(char *out, long seq, int size) {
    int n = sprintf(out,
                    "data: {\"v\":1,\"job\":\"job_0123456789abcdef\",\"seq\":%ld,\"t\":%lld,\"type\":\"progress\","
                    "\"percent\":%ld,\"status\":\"running\",\"pad\":\"",
                    seq, (long long)now_ns(), seq % 100);
    int pad = size - (n - 6) - 2;
    if (pad > 0) {
        memset(out + n, 'x', (size_t)pad);
        n += pad;
    }
    memcpy(out + n, "\"}\n\n", 4);
    return n + 4;
}

static void publish(const char *name, long ntopics, long n, double rate, int size) {
    char *out = malloc((size_t)batch * (size_t)(size + 512));
    int64_t start = now_ns();
    int len = 0, held = 0, base = topic_index(name, (int)strlen(name));
    for (long i = 0; i < n; i++) {
        if (rate > 0) {
            int64_t at = start + (int64_t)((double)i / rate * 1e9);
            struct timespec ts = {at / 1000000000LL, at % 1000000000LL};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
        }
        len += make_frame(out + len, ntopics ? i / ntopics : i, size);
        held++;
        if (held == batch || rate > 0 || ntopics || i == n - 1) {
            send_all(&topics[ntopics ? (int)(i % ntopics) + 1 : base], out, (size_t)len);
            len = held = 0;
        }
    }
    free(out);
}

int main(int argc, char **argv) {
    int port = 0;
    const char *control = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--port")) port = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--control")) control = argv[i + 1];
        else if (!strcmp(argv[i], "--batch")) batch = atoi(argv[i + 1]);
    }
    if (!port || !control) return 2;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);

    ep = epoll_create1(0);
    int one = 1, ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, "127.0.0.1", &sa.sin_addr);
    if (bind(ls, (struct sockaddr *)&sa, sizeof sa) || listen(ls, 4096)) return perror("listen"), 1;
    int us = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_un su = {.sun_family = AF_UNIX};
    snprintf(su.sun_path, sizeof su.sun_path, "%s", control);
    unlink(control);
    if (bind(us, (struct sockaddr *)&su, sizeof su) || listen(us, 16)) return perror("control"), 1;
    struct epoll_event ev = {.events = EPOLLIN};
    ev.data.fd = ls;
    epoll_ctl(ep, EPOLL_CTL_ADD, ls, &ev);
    ev.data.fd = us;
    epoll_ctl(ep, EPOLL_CTL_ADD, us, &ev);
    int ctl = -1;

    static struct epoll_event evs[512];
    static char buf[65536];
    for (;;) {
        int n = epoll_wait(ep, evs, 512, -1);
        for (int k = 0; k < n; k++) {
            int fd = evs[k].data.fd;
            if (fd == ls || fd == us) {
                int c;
                while ((c = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    if (fd == us) ctl = c;
                    else {
                        setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    }
                    ev.data.fd = c;
                    epoll_ctl(ep, EPOLL_CTL_ADD, c, &ev);
                }
                continue;
            }
            ssize_t r = recv(fd, buf, sizeof buf - 1, 0);
            if (r <= 0) {
                if (fd == ctl) ctl = -1;
                leave(fd);
                continue;
            }
            buf[r] = 0;
            if (fd == ctl) {
                char name[64];
                long ntopics, count;
                double rate;
                int size;
                if (sscanf(buf, "publish %63s %ld %ld %lf %d", name, &ntopics, &count, &rate, &size) == 5)
                    publish(name, ntopics, count, rate, size);
                if (write(fd, "{\"ok\":true}\n", 12) < 0) leave(fd);
            } else if (!topic_of[fd]) { /* a request fits one read here */
                char *sp = strchr(buf, ' '), *e = sp ? strchr(sp + 1, ' ') : NULL;
                if (!e) continue;
                if (write(fd, HEAD, sizeof HEAD - 1) < 0) leave(fd);
                else subscribe(fd, topic_index(sp + 1, (int)(e - sp - 1)));
            }
        }
    }
}
