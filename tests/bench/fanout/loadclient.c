/*
 * loadclient - an epoll based Server-Sent-Events load client.
 *
 * Opens N GET connections over the paths of a file, round robin, waits until every one of them has
 * its response headers, prints one JSON line {"ev":"ready",...}, then counts SSE frames.
 *
 *   frame      = a block ended by an empty line that holds at least one "data:" line, and the text of --only
 *   "t":<ns>   = CLOCK_MONOTONIC send time inside the data -> latency histogram
 *   "at":"..." = the same, as RFC 3339 in UTC: what a record of the relay says (CLOCK_REALTIME)
 *   "seq":<n>  = per stream counter; every connection must see first, first+1, first+2 ...
 *                (gap = missing numbers, dup = number not above the last one)
 *   {"missed":<n> = so many events are left out, as the server reports
 *
 * It ends when every (fast) connection has --expect frames, those left out included, when all of them closed, or on
 * --timeout, and prints one JSON line {"ev":"done",...}. With --slow K the first K connections get a tiny receive buffer and
 * are never read; after "done" the client waits for one line on stdin, then reads what is left on
 * them and prints {"ev":"slow",...}: how much a slow reader could still get and whether the server
 * had hung up on it. With --hold it ignores --expect and just keeps the connections open and read
 * until stdin closes (for memory measurements).
 *
 * Transfer coding: identity and chunked are both understood. TLS and compression are not.
 *
 * Usage: loadclient --port P --paths FILE [-n conns] [--expect frames] [--only text] [--timeout s]
 *        [--slow K] [--slow-wait s] [--hold] [--inflight 128] [--cpu K] [--field "Name: value"]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IDLE, CONNECTING, HEADERS, STREAM, CLOSED };
enum { CH_SIZE, CH_EXT, CH_DATA, CH_CR, CH_LF, CH_END };

#define LINE_KEEP 512 /* bytes of a line kept when it is split over two reads; "seq" and "t" come early */

struct conn {
    int fd;
    uint8_t state, chunked, chstate, has_data, have_seq, slow;
    uint16_t line_len; /* bytes kept of the partial line */
    uint8_t line_any;  /* the partial line is not empty */
    uint8_t wanted;    /* the frame has the text of --only */
    uint8_t done;
    uint32_t line_all; /* bytes of the partial line, kept or not */
    uint32_t frame_len;
    uint64_t chleft;
    uint64_t frames, told; /* told: events that a notice of the server counts as left out */
    int64_t last_seq, cur_seq;
    int64_t cur_t;
    char *line; /* LINE_KEEP bytes, allocated when first needed */
    char *head; /* header bytes so far */
    int head_len;
};

/* ---- latency histogram: 64 linear steps per power of two, 1 ns .. 2^43 ns ---- */
#define SUB 64
static uint64_t hist[44 * SUB];
static uint64_t hist_n;
static int64_t hist_max;
static double hist_sum;

static void hist_add(int64_t v) {
    if (v < 0) v = 0;
    if (v > hist_max) hist_max = v;
    hist_sum += (double)v;
    hist_n++;
    uint64_t u = (uint64_t)v;
    int idx;
    if (u < SUB) idx = (int)u;
    else {
        int top = 63 - __builtin_clzll(u); /* >= 6 */
        int shift = top - 6;
        idx = (shift + 1) * SUB + (int)((u >> shift) - SUB);
    }
    if (idx >= 44 * SUB) idx = 44 * SUB - 1;
    hist[idx]++;
}

static double hist_q(double q) { /* milliseconds */
    if (!hist_n) return 0;
    uint64_t want = (uint64_t)(q * (double)hist_n), seen = 0;
    if (want >= hist_n) want = hist_n - 1;
    for (int i = 0; i < 44 * SUB; i++) {
        seen += hist[i];
        if (seen > want) {
            if (i < SUB) return i / 1e6;
            int shift = i / SUB - 1;
            return (double)(((uint64_t)(i % SUB) + SUB) << shift) / 1e6;
        }
    }
    return (double)hist_max / 1e6;
}

static int64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static uint64_t frames, frame_bytes, gaps, dups, told, bytes_in, closed_early, reads;
static int64_t first_frame_ns, last_frame_ns, first_send_ns;
static int64_t recv_ns;
static uint64_t expect;
static int done_conns;

static int64_t find_num(const char *s, int len, const char *key, int keylen, int *ok) {
    const char *p = memmem(s, len, key, keylen);
    *ok = 0;
    if (!p) return 0;
    p += keylen;
    const char *end = s + len;
    while (p < end && (*p == ' ' || *p == '"')) p++;
    int64_t v = 0;
    while (p < end && *p >= '0' && *p <= '9') {
        v = v * 10 + (*p++ - '0');
        *ok = 1;
    }
    return v;
}

static const char *only = "", *field = "";

/* "2026-11-23T19:51:10.123456Z" -> nanoseconds since the epoch, 0 for anything else */
static int64_t wall_ns(const char *s, int len) {
    const char *p = memmem(s, (size_t)len, "\"at\":\"", 6);
    char copy[32];
    int y, mo, d, h, mi, n = 0;
    double sec;
    if (!p || p + 6 + 20 > s + len) return 0;
    p += 6;
    size_t room = (size_t)(s + len - p), take = room < sizeof copy - 1 ? room : sizeof copy - 1;
    memcpy(copy, p, take);
    copy[take] = 0;
    if (sscanf(copy, "%4d-%2d-%2dT%2d:%2d:%lfZ%n", &y, &mo, &d, &h, &mi, &sec, &n) < 6) return 0;
    struct tm tm = {.tm_year = y - 1900, .tm_mon = mo - 1, .tm_mday = d, .tm_hour = h, .tm_min = mi};
    return (int64_t)timegm(&tm) * 1000000000LL + (int64_t)(sec * 1e9);
}

static int64_t wall_ahead; /* CLOCK_REALTIME - CLOCK_MONOTONIC */

/* a reader has everything when it has each event, or was told that it was left out */
static void see_whether_done(struct conn *c) {
    if (!expect || c->slow || c->done || c->frames + c->told < expect) return;
    c->done = 1;
    done_conns++;
}

static void on_line(struct conn *c, const char *s, int len, int all) {
    c->frame_len += (uint32_t)all + 1;
    if (len && s[len - 1] == '\r') len--;
    if (len == 0) {
        uint32_t size = c->frame_len;
        c->frame_len = 0;
        if (!c->has_data) return;
        c->has_data = 0;
        if (!c->wanted) return;
        c->wanted = 0;
        frame_bytes += size;
        c->frames++;
        frames++;
        if (!first_frame_ns) first_frame_ns = recv_ns;
        last_frame_ns = recv_ns;
        if (c->cur_seq >= 0) {
            if (c->have_seq) {
                if (c->cur_seq <= c->last_seq) dups++;
                else gaps += (uint64_t)(c->cur_seq - c->last_seq - 1);
            }
            if (!c->have_seq || c->cur_seq > c->last_seq) c->last_seq = c->cur_seq;
            c->have_seq = 1;
        }
        if (c->cur_t > 0) {
            hist_add(recv_ns - c->cur_t);
            if (!first_send_ns || c->cur_t < first_send_ns) first_send_ns = c->cur_t;
        }
        c->cur_seq = -1;
        c->cur_t = 0;
        see_whether_done(c);
        return;
    }
    if (len >= 5 && memcmp(s, "data:", 5) == 0) {
        int ok;
        if (!c->has_data) c->cur_seq = -1, c->cur_t = 0;
        c->has_data = 1;
        int64_t missed = find_num(s, len, "{\"missed\":", 10, &ok);
        if (ok) {
            c->told += (uint64_t)missed;
            if (!c->slow) told += (uint64_t)missed;
            see_whether_done(c);
        }
        if (!*only || memmem(s, (size_t)len, only, strlen(only))) c->wanted = 1;
        else return;
        int64_t v = find_num(s, len, "\"seq\":", 6, &ok);
        if (ok) c->cur_seq = v;
        v = find_num(s, len, "\"t\":", 4, &ok);
        if (ok) c->cur_t = v;
        else if ((v = wall_ns(s, len)) > 0) c->cur_t = v - wall_ahead;
    }
}

static void on_body(struct conn *c, const char *p, size_t len) {
    while (len) {
        const char *nl = memchr(p, '\n', len);
        size_t n = nl ? (size_t)(nl - p) : len;
        if (c->line_any || !nl) {
            if (!c->line) c->line = malloc(LINE_KEEP);
            size_t room = LINE_KEEP - c->line_len, take = n < room ? n : room;
            memcpy(c->line + c->line_len, p, take);
            c->line_len += take;
            c->line_all += (uint32_t)n;
            if (n) c->line_any = 1;
            if (nl) {
                on_line(c, c->line, c->line_len, (int)c->line_all);
                c->line_len = 0;
                c->line_all = 0;
                c->line_any = 0;
            }
        } else
            on_line(c, p, (int)n, (int)n);
        if (!nl) return;
        p += n + 1;
        len -= n + 1;
    }
}

static void on_chunked(struct conn *c, const char *p, size_t len) {
    const char *end = p + len;
    while (p < end) {
        switch (c->chstate) {
        case CH_SIZE: {
            char ch = *p++;
            if (ch >= '0' && ch <= '9') c->chleft = c->chleft * 16 + (uint64_t)(ch - '0');
            else if (ch >= 'a' && ch <= 'f') c->chleft = c->chleft * 16 + (uint64_t)(ch - 'a' + 10);
            else if (ch >= 'A' && ch <= 'F') c->chleft = c->chleft * 16 + (uint64_t)(ch - 'A' + 10);
            else if (ch == '\n') c->chstate = c->chleft ? CH_DATA : CH_END;
            else c->chstate = CH_EXT;
            break;
        }
        case CH_EXT:
            if (*p++ == '\n') c->chstate = c->chleft ? CH_DATA : CH_END;
            break;
        case CH_DATA: {
            size_t n = (size_t)(end - p);
            if (n > c->chleft) n = c->chleft;
            on_body(c, p, n);
            p += n;
            c->chleft -= n;
            if (!c->chleft) c->chstate = CH_CR;
            break;
        }
        case CH_CR:
            p++;
            c->chstate = CH_LF;
            break;
        case CH_LF:
            p++;
            c->chstate = CH_SIZE;
            break;
        default:
            return; /* last chunk seen */
        }
    }
}

static int ready_conns, bad_status;
static char first_head[4096];

static void on_data(struct conn *c, char *p, size_t len) {
    if (c->state == HEADERS) {
        c->head = realloc(c->head, (size_t)c->head_len + len + 1);
        memcpy(c->head + c->head_len, p, len);
        c->head_len += (int)len;
        c->head[c->head_len] = 0;
        char *e = memmem(c->head, c->head_len, "\r\n\r\n", 4);
        if (!e) return;
        e += 4;
        char save = *e;
        *e = 0;
        if (strncmp(c->head + 9, "200", 3)) bad_status++;
        if (strcasestr(c->head, "\r\ntransfer-encoding: chunked")) c->chunked = 1;
        if (!first_head[0]) snprintf(first_head, sizeof first_head, "%s", c->head);
        *e = save;
        c->state = STREAM;
        ready_conns++;
        int rest = c->head_len - (int)(e - c->head);
        if (rest) {
            if (c->chunked) on_chunked(c, e, rest);
            else on_body(c, e, rest);
        }
        free(c->head);
        c->head = NULL;
        return;
    }
    if (c->chunked) on_chunked(c, p, len);
    else on_body(c, p, len);
}

static const char *host = "127.0.0.1";
static char **paths;
static int port, nconns = 1, npaths = 0, slow = 0, hold = 0, inflight_max = 128;
static double timeout_s = 60, slow_wait = 2;
static struct conn *conns;
static int ep;
static char buf[1 << 18];

static void start_conn(int i) {
    struct conn *c = &conns[i];
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        perror("socket");
        exit(1);
    }
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (i < slow) {
        int small = 4096;
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        c->slow = 1;
    }
    struct linger lg = {1, 0}; /* close with RST: no TIME_WAIT pile-up between runs */
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &lg, sizeof lg);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &sa.sin_addr);
    if (connect(c->fd, (struct sockaddr *)&sa, sizeof sa) < 0 && errno != EINPROGRESS) {
        perror("connect");
        exit(1);
    }
    c->state = CONNECTING;
    c->cur_seq = -1;
    struct epoll_event ev = {.events = EPOLLOUT | EPOLLIN, .data.u32 = (uint32_t)i};
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
}

static void send_request(int i) {
    struct conn *c = &conns[i];
    char req[2048];
    int n = snprintf(req, sizeof req,
                     "GET %s HTTP/1.1\r\nHost: %s:%d\r\nAccept: text/event-stream\r\n"
                     "Cache-Control: no-cache\r\nUser-Agent: loadclient\r\n%s%s\r\n",
                     paths[i % npaths], host, port, field, *field ? "\r\n" : "");
    if (n >= (int)sizeof req) {
        fprintf(stderr, "the request is too long\n");
        exit(2);
    }
    if (send(c->fd, req, (size_t)n, MSG_NOSIGNAL) != n) {
        perror("send request");
        exit(1);
    }
    c->state = HEADERS;
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
}

static void close_conn(int i) {
    struct conn *c = &conns[i];
    if (c->state == CLOSED) return;
    if (c->state == HEADERS || c->state == CONNECTING) bad_status++;
    c->state = CLOSED;
    epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    closed_early++;
}

static void read_paths(const char *name) {
    FILE *file = fopen(name, "r");
    char line[1024];
    if (!file) {
        perror(name);
        exit(1);
    }
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        paths = realloc(paths, sizeof *paths * (size_t)(npaths + 1));
        paths[npaths++] = strdup(line);
    }
    fclose(file);
}

static int local_port(int fd) {
    struct sockaddr_in sa;
    socklen_t len = sizeof sa;
    return getsockname(fd, (struct sockaddr *)&sa, &len) ? 0 : ntohs(sa.sin_port);
}

static double cpu_s(void) {
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    return ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

static void report_done(double wall, double cpu0, const char *why) {
    /* wall_s: first send stamp (or first frame) to last frame seen */
    int64_t from = first_send_ns ? first_send_ns : first_frame_ns;
    double span = (last_frame_ns - from) / 1e9;
    printf("{\"ev\":\"done\",\"why\":\"%s\",\"conns\":%d,\"frames\":%llu,\"gaps\":%llu,\"dups\":%llu,"
           "\"told\":%llu,\"closed\":%llu,\"wall_s\":%.4f,\"since_ready_s\":%.4f,\"deliveries_per_s\":%.0f,\"lat_n\":%llu,"
           "\"mean_ms\":%.3f,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,"
           "\"frame_bytes\":%llu,\"bytes\":%llu,\"reads\":%llu,\"client_cpu_s\":%.3f}\n",
           why, nconns, (unsigned long long)frames, (unsigned long long)gaps, (unsigned long long)dups,
           (unsigned long long)told, (unsigned long long)closed_early, span, wall, span > 0 ? frames / span : 0,
           (unsigned long long)hist_n, hist_n ? hist_sum / (double)hist_n / 1e6 : 0, hist_q(.5), hist_q(.9),
           hist_q(.99), hist_max / 1e6, (unsigned long long)frame_bytes, (unsigned long long)bytes_in, (unsigned long long)reads,
           cpu_s() - cpu0);
    fflush(stdout);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(a, "--hold")) { hold = 1; continue; }
        if (!strcmp(a, "--host")) host = v;
        else if (!strcmp(a, "--port")) port = atoi(v);
        else if (!strcmp(a, "--paths")) read_paths(v);
        else if (!strcmp(a, "--only")) only = v;
        else if (!strcmp(a, "--field")) field = v;
        else if (!strcmp(a, "-n")) nconns = atoi(v);
        else if (!strcmp(a, "--expect")) expect = (uint64_t)atoll(v);
        else if (!strcmp(a, "--timeout")) timeout_s = atof(v);
        else if (!strcmp(a, "--slow")) slow = atoi(v);
        else if (!strcmp(a, "--slow-wait")) slow_wait = atof(v);
        else if (!strcmp(a, "--inflight")) inflight_max = atoi(v);
        else if (!strcmp(a, "--cpu")) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET((size_t)atoi(v), &set);
            sched_setaffinity(0, sizeof set, &set);
        } else {
            fprintf(stderr, "unknown option %s\n", a);
            return 2;
        }
        i++;
    }
    if (!npaths || !port) {
        fprintf(stderr, "--port and --paths are needed\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    wall_ahead = (int64_t)wall.tv_sec * 1000000000LL + wall.tv_nsec - now_ns();
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);

    conns = calloc((size_t)nconns, sizeof *conns);
    ep = epoll_create1(EPOLL_CLOEXEC);
    static struct epoll_event evs[512];
    const uint32_t STDIN = 0xffffffffu;
    if (hold) {
        struct epoll_event ev = {.events = EPOLLIN, .data.u32 = STDIN};
        epoll_ctl(ep, EPOLL_CTL_ADD, 0, &ev);
    }

    int64_t t0 = now_ns(), ready_at = 0;
    double cpu0 = 0;
    int opened = 0, live = 0, stop = 0;
    const char *why = "count";
    int64_t deadline = t0 + (int64_t)(timeout_s * 1e9);
    while (!stop) {
        while (opened < nconns && opened - ready_conns - bad_status < inflight_max) {
            start_conn(opened++);
            live++;
        }
        int64_t left = deadline - now_ns();
        if (left <= 0) { why = "timeout"; break; }
        int wait_ms = (int)(left / 1000000) + 1;
        int n = epoll_wait(ep, evs, 512, wait_ms);
        for (int k = 0; k < n; k++) {
            uint32_t id = evs[k].data.u32;
            if (id == STDIN) {
                char tmp[256];
                if (read(0, tmp, sizeof tmp) <= 0) { why = "stdin"; stop = 1; }
                continue;
            }
            struct conn *c = &conns[id];
            if (c->state == CONNECTING) {
                int err = 0;
                socklen_t sl = sizeof err;
                getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &sl);
                if (err) { close_conn((int)id); continue; }
                if (evs[k].events & EPOLLOUT) send_request((int)id);
                continue;
            }
            ssize_t r = recv(c->fd, buf, c->slow ? 4096 : sizeof buf, 0);
            reads++;
            if (r > 0) {
                recv_ns = now_ns();
                bytes_in += (uint64_t)r;
                on_data(c, buf, (size_t)r);
                if (c->slow && c->state == STREAM) epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
            } else if (r == 0 || (errno != EAGAIN && errno != EINTR))
                close_conn((int)id);
        }
        if (!ready_at && ready_conns + bad_status >= nconns) {
            ready_at = now_ns();
            printf("{\"ev\":\"ready\",\"conns\":%d,\"bad\":%d,\"connect_s\":%.4f,\"head\":\"", ready_conns,
                   bad_status, (ready_at - t0) / 1e9);
            for (char *p = first_head; *p; p++)
                if (*p == '\r') continue;
                else if (*p == '\n') printf("|");
                else if (*p == '"' || *p == '\\') printf("'");
                else putchar(*p);
            printf("\",\"slow_ports\":[");
            for (int i = 0; i < slow; i++) printf("%s%d", i ? "," : "", local_port(conns[i].fd));
            printf("]}\n");
            fflush(stdout);
            cpu0 = cpu_s();
            deadline = ready_at + (int64_t)(timeout_s * 1e9);
            reads = 0;
        }
        if (ready_at && !hold && expect && done_conns >= nconns - slow) break;
        if (ready_at && closed_early >= (uint64_t)nconns) { why = "closed"; break; }
    }
    report_done((now_ns() - (ready_at ? ready_at : t0)) / 1e9, cpu0, why);

    if (slow) { /* what can the slow readers still get? */
        char line[64];
        if (!fgets(line, sizeof line, stdin)) return 0;
        uint64_t g0 = gaps, d0 = dups, f = 0, closed = 0;
        int64_t maxseq = -1;
        int64_t idle_since = now_ns();
        while (now_ns() - idle_since < (int64_t)(slow_wait * 1e9)) {
            int got = 0;
            for (int i = 0; i < slow; i++) {
                struct conn *c = &conns[i];
                if (c->state == CLOSED) continue;
                ssize_t r = recv(c->fd, buf, sizeof buf, 0);
                if (r > 0) {
                    recv_ns = now_ns();
                    on_data(c, buf, (size_t)r);
                    got = 1;
                } else if (r == 0 || errno != EAGAIN) {
                    c->state = CLOSED;
                    closed++;
                }
            }
            if (got) idle_since = now_ns();
            else usleep(2000);
            if (closed == (uint64_t)slow) break;
        }
        for (int i = 0; i < slow; i++) {
            f += conns[i].frames;
            if (conns[i].last_seq > maxseq) maxseq = conns[i].last_seq;
        }
        printf("{\"ev\":\"slow\",\"slow\":%d,\"frames\":%llu,\"gaps\":%llu,\"dups\":%llu,\"last_seq\":%lld,"
               "\"closed_by_server\":%llu}\n",
               slow, (unsigned long long)f, (unsigned long long)(gaps - g0), (unsigned long long)(dups - d0),
               (long long)maxseq, (unsigned long long)closed);
        fflush(stdout);
    }
    return 0;
}
