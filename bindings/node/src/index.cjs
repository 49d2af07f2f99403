"use strict";

module.exports = require("./main.cjs");
