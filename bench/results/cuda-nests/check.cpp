/* check.cpp: the same kernel texts on the CPU against f64, small sizes, every block, several thread orders. Exit 1 on a miss.
     for x in -DQKV "-DGATE -DBK_=64 -DSTAGES_=3" "-DGATE -DBK_=32 -DSTAGES_=4"; do g++ -O2 -mfma -std=c++17 -Wno-unknown-pragmas $x check.cpp -o check && ./check || exit 1; done */
#ifdef QKV
#define D_ 2048
#define H_ 2
#define HKV_ 1
#include "qkv.cu"
#else
#define D_ 448                           /* the last stage then lies under the tile of h: the barrier before the epilogue matters */
#define F_ 256
#include "gate.cu"
#endif

static double uniform() { return host_random() / 1073741824.0 - 1.0; }
static float bf(float f) { return as_float(host_bf16(f) << 16); }
static int bad;
struct measure { double e = 0, n = 0; void add(double got, double want) { e += (got - want) * (got - want), n += want * want; } double rel() { return sqrt(e / n); } };
static void demand(const char *what, double rel, double limit) {
    printf("%-34s relative L2 error %.2e (limit %.0e) %s\n", what, rel, limit, rel <= limit ? "ok" : "MISS");
    if (!(rel <= limit)) bad = 1;
}

#ifdef QKV
enum { N = NQ + 2 * NK, PAGES = 3, SLOT = 2 * PAGE + 5, POS = 4000 };
template <class T> struct aligned { T *p; aligned(size_t n) { p = (T *)aligned_alloc(128, (n * sizeof(T) + 127) / 128 * 128); memset((void *)p, 0xff, n * sizeof(T)); } };

/* w: what the weights stand for. The angle is the f32 product, as in the text: its rounding alone is 1.7e-5 of q at position 4000. */
static void check(const char *name, const std::vector<double> &w, double limit, const float *x, const float *g, const float *freq, std::function<void(const int *, const int *, float *, bf16 *, bf16 *)> kernel) {
    aligned<float> q(NQ);
    aligned<bf16> k(PAGES * HKV * PAGE * DH), v(PAGES * HKV * PAGE * DH);
    int pos = POS, slot = SLOT;
    for (int i = 0; i < N / ROWS; i++) if (!host_run(THREADS, i, 0, [&] { kernel(&pos, &slot, q.p, k.p, v.p); })) { printf("%s: threads wait for ever\n", name); bad = 1; return; }
    double ss = 0;
    std::vector<double> a(N);
    for (int d = 0; d < D; d++) ss += (double)x[d] * x[d];
    for (int n = 0; n < N; n++) { for (int d = 0; d < D; d++) a[n] += w[(size_t)n * D + d] * x[d] * g[d]; a[n] /= sqrt(ss / D + EPS); }
    for (int n = 0; n < NQ + NK; n += 2) { double t = (float)POS * freq[n % DH / 2], s = sin(t), c = cos(t), u = a[n] * c - a[n + 1] * s; a[n + 1] = a[n] * s + a[n + 1] * c, a[n] = u; }
    measure mq, mk, mv;
    int outside = 0;
    for (int n = 0; n < NQ; n++) mq.add(q.p[n], a[n]);
    for (int h = 0; h < HKV; h++) for (int e = 0; e < DH; e++) {
        size_t at = ((size_t)(SLOT / PAGE * HKV + h) * PAGE + SLOT % PAGE) * DH + e;
        mk.add(as_float(k.p[at].bits << 16), a[NQ + h * DH + e]), mv.add(as_float(v.p[at].bits << 16), a[NQ + NK + h * DH + e]);
        k.p[at].bits = v.p[at].bits = 0xffff;
    }
    for (size_t i = 0; i < PAGES * HKV * PAGE * DH; i++) outside += k.p[i].bits != 0xffff || v.p[i].bits != 0xffff;
    char what[64];
    snprintf(what, sizeof what, "%s q", name), demand(what, mq.rel(), limit);
    snprintf(what, sizeof what, "%s k in bf16", name), demand(what, mk.rel(), 3e-3);
    snprintf(what, sizeof what, "%s v in bf16", name), demand(what, mv.rel(), 3e-3);
    if (outside) printf("%s: %d elements of the cache outside the slot changed\n", name, outside), bad = 1;
}

static u16 f16(double f) { u16 best = 0; for (u16 i = 0; i < 0x7c00; i++) if (fabs(f16_to_f32(i) - f) < fabs(f16_to_f32(best) - f)) best = i; return best; }

/* eight lanes reading the same 16-byte chunk of their own run of a kept row must hit eight different columns of the banks */
template <class F> static void demand_columns(const char *what, int per, F place) {
    for (int first = 0; first < 32; first += 8) for (int h = 0; h < per; h++) {
        int seen = 0;
        for (int lane = first; lane < first + 8; lane++) seen |= 1 << place(lane, h) / 4 % 8;
        if (seen != 255) { printf("%s: bank conflict\n", what), bad = 1; return; }
    }
}

int main() {
    demand_columns("row of 8", 2, [](int lane, int h) { return row_shared<8>::place(lane * 2 + h); });
    demand_columns("row of 32", 8, [](int lane, int h) { return row_shared<32>::place(lane * 8 + h); });
    demand_columns("row of a16", 4, [](int lane, int h) { return act_place(lane, h); });
    aligned<float> x(D), g(D), freq(DH / 2);
    for (int d = 0; d < D; d++) x.p[d] = (float)uniform(), g.p[d] = (float)(1 + 0.1 * uniform());
    for (int i = 0; i < DH / 2; i++) freq.p[i] = (float)pow(10000.0, -2.0 * i / DH);
    aligned<bf16> w((size_t)N * D);
    std::vector<double> wd((size_t)N * D);
    for (size_t i = 0; i < wd.size(); i++) w.p[i].bits = (u16)host_bf16((float)uniform()), wd[i] = as_float(w.p[i].bits << 16);
    const bf16 *wk = w.p + (size_t)NQ * D, *wv = wk + (size_t)NK * D;
    for (auto k : { std::make_pair("bf16 late", qkv_bf16_late), std::make_pair("bf16 local", qkv_bf16_local), std::make_pair("bf16 async", qkv_bf16_async) })
        check(k.first, wd, 1e-6, x.p, g.p, freq.p, [&](const int *pos, const int *slot, float *q, bf16 *kc, bf16 *vc) { k.second(x.p, g.p, w.p, wk, wv, freq.p, pos, slot, q, kc, vc); });
    size_t bytes[] = { (size_t)NQ * (D / 2 + D / 16), (size_t)NK * (D / 2 + D / 16) };
    u16 scales[16];
    for (auto &s : scales) s = f16(0.01 + 0.1 * fabs(uniform()));
    aligned<unsigned char> pq(bytes[0]), pk(bytes[1]), pv(bytes[1]);
    for (int n = 0; n < N; n++) for (int b = 0; b < D / 32; b++) {
        unsigned char *p = n < NQ ? pq.p : n < NQ + NK ? pk.p : pv.p;
        int r = n < NQ ? n : (n - NQ) % NK, rows = n < NQ ? NQ : NK;
        u16 s = scales[host_random() % 16];
        ((u16 *)(p + (size_t)rows * (D / 2)))[r * (D / 32) + b] = s;
        for (int j = 0; j < 16; j++) {
            unsigned char t = p[(size_t)r * (D / 2) + b * 16 + j] = (unsigned char)host_random();
            wd[(size_t)n * D + b * 32 + j] = ((t & 15) - 8) * f16_to_f32(s), wd[(size_t)n * D + b * 32 + j + 16] = ((t >> 4) - 8) * f16_to_f32(s);
        }
    }
    for (auto k : { std::make_pair("q4_0 cast", qkv_q4_cast), std::make_pair("q4_0 a16", qkv_q4_a16) })
        check(k.first, wd, strstr(k.first, "a16") ? 1e-4 : 1e-6, x.p, g.p, freq.p, [&](const int *pos, const int *slot, float *q, bf16 *kc, bf16 *vc) { k.second(x.p, g.p, pq.p, pk.p, pv.p, freq.p, pos, slot, q, kc, vc); });
    return bad;
}
#else
int main() {
    const int T = 200;
    auto make = [](size_t n, double scale) { bf16 *p = (bf16 *)aligned_alloc(128, n * 2); for (size_t i = 0; i < n; i++) p[i].bits = (u16)host_bf16((float)(scale * uniform())); return p; };
    bf16 *x = make((size_t)T * D, 1), *w1 = make((size_t)F * D, 0.1), *w3 = make((size_t)F * D, 0.1), *h = make((size_t)(T + 128) * F, 1);
    std::vector<float> r(T);
    for (auto &f : r) f = (float)(1 + uniform() / 2);
    memset((void *)h, 0xff, (size_t)(T + 128) * F * 2);
    for (int i = 0; i < (T + BT - 1) / BT; i++) for (int j = 0; j < F / BF; j++)
        if (!host_run(THREADS, i, j, [&] { gate_up(x, r.data(), w1, w3, h, T); })) { printf("gate: threads wait for ever\n"); return 1; }
    measure m;
    int outside = 0;
    for (int t = 0; t < T; t++) for (int f = 0; f < F; f++) {
        double a = 0, b = 0;
        for (int d = 0; d < D; d++) { double xv = as_float(x[(size_t)t * D + d].bits << 16); a += xv * as_float(w1[(size_t)f * D + d].bits << 16), b += xv * as_float(w3[(size_t)f * D + d].bits << 16); }
        a *= r[t], b *= r[t];
        m.add(as_float(h[(size_t)t * F + f].bits << 16), a / (1 + exp(-a)) * b);
    }
    for (size_t i = (size_t)T * F; i < (size_t)(T + 128) * F; i++) outside += h[i].bits != 0xffff;
    if (outside) printf("gate: %d elements past row T changed\n", outside), bad = 1;
    if (host_conflicts) printf("gate: %ld bank conflicts of ldmatrix\n", host_conflicts), bad = 1;
    demand("gate_up, T=200 of 256, in bf16", m.rel(), 3e-3);
    return bad;
}
#endif
