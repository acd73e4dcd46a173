"""A Modbus device for the tests: pymodbus, over TCP or on a serial port.

    modbus_server.py tcp PORT
    modbus_server.py rtu DEVICE

Says `ready` when it answers. Unit 1 holds, from address 0 on: holding registers 0 to 199 with their own address; 200 and 201 the
f32 1.5, high word first; 202 and 203 the same, low word first; input register n holds 1000 + n; coil n is set where n is even, discrete input n
where n is divisible by three.
"""

import asyncio
import sys

from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusSerialServer, ModbusTcpServer


def context():
    # The blocks count from 1, what is sent from 0.
    block = lambda values: ModbusSequentialDataBlock(1, list(values))
    holding = list(range(200)) + [0x3FC0, 0, 0, 0x3FC0]
    unit = ModbusDeviceContext(
        hr=block(holding),
        ir=block(1000 + n for n in range(200)),
        co=block(n % 2 == 0 for n in range(2100)),
        di=block(n % 3 == 0 for n in range(2100)),
    )
    return ModbusServerContext(devices={1: unit}, single=False)


async def main(kind, where):
    if kind == "tcp":
        server = ModbusTcpServer(context(), address=("127.0.0.1", int(where)))
    else:
        server = ModbusSerialServer(context(), port=where, baudrate=115200)
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
