/* What the helper of test_helper.c may be told to do. */
#ifndef POSTERN_TESTS_STUB_HELPER_H
#define POSTERN_TESTS_STUB_HELPER_H

enum stub { STUB_ANSWER, STUB_DIE, STUB_STOP };

#endif
