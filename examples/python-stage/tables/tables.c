#include <Python.h>

#include "squares.h"

static PyObject *square(PyObject *self, PyObject *argument)
{
    long number = PyLong_AsLong(argument);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    if (number < 0 || number >= (long)(sizeof squares / sizeof *squares)) {
        PyErr_SetString(PyExc_ValueError, "not in the table");
        return NULL;
    }
    return PyLong_FromLong(squares[number]);
}

static PyMethodDef methods[] = {
    {"square", square, METH_O, "Return the square of a number below 100."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "tables", "Squares from a table.", 0, methods,
};

PyMODINIT_FUNC PyInit_tables(void)
{
    return PyModule_Create(&module);
}
