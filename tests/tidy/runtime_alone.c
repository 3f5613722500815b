/* runtime_alone.c: links every object of runtime/ with aq_ir, libm and threads and nothing else: if the runtime came to need LLVM,
 * the passes or a third-party library, this would not link; if one came in sideways, the maps of this process would show it. */
#include <stdio.h>
#include <string.h>

int main(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps)
        return 0; /* no /proc: that it linked is the test */
    static const char *const strangers[] = {"libLLVM", "libcjson", "libutf8proc", "libpcre2", "libedit", "libcuda", "libnvrtc"};
    char line[4096];
    int bad = 0;
    while (fgets(line, sizeof line, maps))
        for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
            if (strstr(line, strangers[i])) {
                printf("the runtime alone maps %s", line);
                bad = 1;
            }
    fclose(maps);
    return bad;
}
