/** The program: any server will do. */
import { createServer } from 'node:http'

const server = createServer((_request, response) => response.end(`answered by process ${process.pid}\n`))
server.listen(Number(process.env.PORT ?? 8080))
