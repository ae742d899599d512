/*
 * Whether this build's options are what docs/SECURITY.md says, seen from inside: what
 * is not set is zero, and the compiler was told the rest. tests/unit/hardening.py looks
 * at the programs themselves.
 */
#include <stdio.h>
#include <string.h>

enum { FRAME = 512 };

/* Leaves something where the next call has its frame. */
__attribute__((noinline)) static void soil(unsigned char with)
{
    unsigned char frame[FRAME];
    memset(frame, with, sizeof(frame));
    __asm__ volatile("" : : "m"(frame)); /* it is read, for all the compiler knows */
}

__attribute__((noinline)) static int count_soiled(void)
{
    unsigned char frame[FRAME];
    int n = 0;
    __asm__ volatile("" : "+m"(frame)); /* it may have been filled, for all it knows */
    for (int i = 0; i < FRAME; i++)
        n += frame[i] != 0;
    return n;
}

int main(void)
{
    soil(0xa5);
    int soiled = count_soiled();
    if (soiled != 0)
        (void)printf("%d bytes of a variable that was not set are not zero\n", soiled);
#if !defined(_FORTIFY_SOURCE) || _FORTIFY_SOURCE < 3
    (void)printf("FORTIFY_SOURCE is not 3\n");
    return 1;
#endif
#if defined(__x86_64__) && (!defined(__CET__) || __CET__ != 3)
    (void)printf("the compiler makes no CET code\n");
    return 1;
#endif
    return soiled != 0;
}
